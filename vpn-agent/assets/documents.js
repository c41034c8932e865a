// Takes a file that is dropped on any page of the agent, or chosen, to the agent itself; and
// copies what the diagnosis says.
"use strict";

(() => {
  const state = document.getElementById("drop-state");
  const say = (text) => {
    if (state) state.textContent = text;
  };

  const send = async (file) => {
    say(`「${file.name}」を読み込んでいます…`);
    try {
      const response = await fetch("/documents", {
        method: "POST",
        body: file,
        headers: {
          "Content-Type": "application/octet-stream",
          "X-Csrf": document.body.dataset.csrf,
          "X-Name": encodeURIComponent(file.name),
        },
      });
      if (!response.ok) throw new Error(String(response.status));
      location.assign("/documents");
    } catch {
      say(`「${file.name}」を読み込めませんでした。大きすぎるか、移動された可能性があります。`);
    }
  };

  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (event.dataTransfer.files.length > 0) send(event.dataTransfer.files[0]);
  });

  const chooser = document.getElementById("file");
  if (chooser) {
    chooser.addEventListener("change", () => {
      if (chooser.files.length > 0) send(chooser.files[0]);
    });
  }

  const copy = document.getElementById("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById("letter").value);
      document.getElementById("copied").textContent = "コピーしました。";
    });
  } else if (copy) {
    // A page under a made-up name may not reach the clipboard by itself.
    copy.hidden = false;
    copy.addEventListener("click", () => {
      document.getElementById("letter").select();
      const done = document.execCommand("copy");
      document.getElementById("copied").textContent = done ? "コピーしました。" : "";
    });
  }

  const reveal = document.getElementById("reveal");
  if (reveal) {
    document.getElementById("reveal-line").hidden = false;
    reveal.addEventListener("change", () => {
      document.getElementById("password").type = reveal.checked ? "text" : "password";
    });
  }
})();

// Keeps the page true without a reload: the remaining time each second, and a fresh page
// when the picture changes. Everything works without it, only slower.
"use strict";

(() => {
  const picture = document.body.dataset.picture;
  const remaining = document.getElementById("remaining");
  const lost = document.getElementById("lost");
  let failures = 0;

  const spell = (seconds) =>
    `${Math.floor(seconds / 60)}分${String(seconds % 60).padStart(2, "0")}秒`;

  // What is being typed must not be lost to a reload.
  const typing = () =>
    Array.from(document.querySelectorAll("input:not([type=hidden])")).some(
      (input) => input.value !== input.defaultValue,
    );

  const look = async () => {
    try {
      const response = await fetch("/status.json", { cache: "no-store" });
      if (!response.ok) throw new Error(String(response.status));
      const status = await response.json();
      failures = 0;
      lost.hidden = true;
      if (remaining && status.remaining_s !== null) {
        remaining.textContent = spell(status.remaining_s);
      }
      if (status.picture !== picture && !typing()) {
        location.replace(location.pathname + location.search);
        return;
      }
    } catch {
      failures += 1;
      lost.hidden = failures < 3;
    }
    setTimeout(look, document.title.startsWith("接続しています") ? 250 : 1000);
  };

  for (const form of document.querySelectorAll("form")) {
    form.addEventListener("submit", () => {
      const button = form.querySelector("button[data-busy]");
      if (button) {
        button.textContent = button.dataset.busy;
        button.disabled = true;
      }
    });
  }

  setTimeout(look, 250);
})();

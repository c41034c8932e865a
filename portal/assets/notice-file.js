// Sends a determination that staff made themselves, and goes on to its draft.
"use strict";

(() => {
  const root = document.getElementById("notice-file");
  if (!root) return;
  const input = document.getElementById("notice-pdf");
  const error = document.getElementById("notice-pdf-error");
  const progress = document.getElementById("notice-pdf-progress");
  const send = document.getElementById("notice-pdf-send");
  const LIMIT_BYTES = 50 * 1024 * 1024;
  root.hidden = false;

  const tell = (text) => {
    error.textContent = text;
    error.hidden = text === "";
    input.toggleAttribute("aria-invalid", text !== "");
  };

  send.addEventListener("click", () => {
    const file = input.files[0];
    tell("");
    if (!file) return tell("PDFファイルを選んでください。");
    if (file.size > LIMIT_BYTES) return tell("ファイルが大きすぎます（50MBまで）。");
    const request = new XMLHttpRequest();
    request.open("POST", root.dataset.path);
    request.setRequestHeader("renkei-csrf", root.dataset.csrf);
    request.setRequestHeader("content-type", "application/pdf");
    request.upload.addEventListener("progress", (event) => {
      progress.value = event.total ? (100 * event.loaded) / event.total : 0;
    });
    const end = () => {
      send.disabled = false;
      progress.hidden = true;
    };
    request.addEventListener("load", () => {
      end();
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* told below */ }
      if (request.status === 201) location.assign(answer.location);
      else tell(answer.sentence || "登録できませんでした。もう一度お試しください。");
    });
    request.addEventListener("error", () => {
      end();
      tell("接続が途切れました。もう一度お試しください。");
    });
    send.disabled = true;
    progress.hidden = false;
    request.send(file);
  });
})();

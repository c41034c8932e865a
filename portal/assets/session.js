// Counts down to the end of the tunnel session, warns at ten and two minutes, and says so
// when the connection is over. The portal's clock rules: the PC's may be wrong, so only the
// time that has passed since the page came is measured here.
"use strict";

(() => {
  const MINUTE_MS = 60_000;
  const WARNINGS = [
    { atMs: 10 * MINUTE_MS, text: "残り10分です。入力中のものは、時間内に送信してください。" },
    { atMs: 2 * MINUTE_MS, text: "残り2分です。まもなく切断されます。" },
  ];

  const time = document.querySelector("time[data-deadline-ms]");
  const line = document.getElementById("session-time");
  const notice = document.getElementById("session-notice");
  const over = document.getElementById("session-over");
  if (!time || !line || !notice || !over) return;

  const leftAtStart = Number(time.dataset.deadlineMs) - Number(time.dataset.nowMs);
  const wallAtStart = Date.now();
  const steadyAtStart = performance.now();
  let shown = Infinity;

  // The steady clock may stand still while the PC sleeps, the wall clock may be set back.
  const passedMs = () => Math.max(performance.now() - steadyAtStart, Date.now() - wallAtStart);

  const words = (leftMs) => {
    const seconds = Math.ceil(leftMs / 1000);
    const minutes = Math.floor(seconds / 60);
    if (minutes >= 10) return `${minutes}分`;
    return `${minutes}分${String(seconds % 60).padStart(2, "0")}秒`;
  };

  const tick = () => {
    const left = leftAtStart - passedMs();
    if (left <= 0) {
      time.textContent = "0分";
      line.classList.add("who__time--urgent");
      notice.hidden = true;
      if (typeof over.showModal === "function") over.showModal();
      else over.setAttribute("open", "");
      document.dispatchEvent(new CustomEvent("renkei:over"));
      return;
    }
    time.textContent = words(left);
    line.classList.toggle("who__time--soon", left <= WARNINGS[0].atMs);
    line.classList.toggle("who__time--urgent", left <= WARNINGS[1].atMs);
    for (const warning of WARNINGS) {
      if (left <= warning.atMs && shown > warning.atMs) {
        shown = warning.atMs;
        notice.textContent = warning.text;
        notice.hidden = false;
        notice.classList.toggle("session-notice--urgent", warning.atMs <= 2 * MINUTE_MS);
      }
    }
    // Wakes when the shown text changes, never later than a second.
    setTimeout(tick, Math.min(1000, left));
  };

  over.addEventListener("cancel", (event) => event.preventDefault());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && leftAtStart - passedMs() <= 0 && !over.open) tick();
  });
  tick();
})();

// Keeps the line about the one-time password's mail up to date while the mail is on its way.
"use strict";

(() => {
  const EVERY_MS = 3_000;
  const line = document.getElementById("code-line");
  if (!line) return;

  const look = async () => {
    if (!line.querySelector("[data-under-way]")) return;
    try {
      const answer = await fetch("/sign-in/code", { headers: { accept: "text/html" } });
      // Another status means that the session is over; the countdown says so.
      if (!answer.ok) return;
      const html = (await answer.text()).trim();
      // Read aloud only when it says something new.
      if (line.innerHTML.trim() !== html) line.innerHTML = html;
    } catch {
      // No connection just now: look again later.
    }
    setTimeout(look, EVERY_MS);
  };
  setTimeout(look, EVERY_MS);
})();

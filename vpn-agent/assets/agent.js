// Keeps the page true without a reload: the remaining time each second, a fresh page when the
// picture changes, and a word when the program behind it is gone. Everything works without
// it, only slower.
"use strict";

(() => {
  const { picture: shown, source } = document.body.dataset;
  const remaining = document.getElementById("remaining");
  const lost = document.getElementById("lost");
  // The program answers within 0.8 seconds, and at once when asked plainly.
  const patience = 1200;
  const shortPatience = 500;
  let seen = shown;
  let failures = 0;
  let timer = 0;
  let busy = false;
  let leaving = false;

  const spell = (seconds) =>
    `${Math.floor(seconds / 60)}分${String(seconds % 60).padStart(2, "0")}秒`;

  // What is being typed must not be lost to a reload.
  const typing = () =>
    Array.from(document.querySelectorAll("input:not([type=hidden])")).some(
      (input) => input.value !== input.defaultValue,
    );

  // What stands on a page whose program is gone is no longer true.
  const show = (gone) => {
    lost.hidden = !gone;
    document.body.classList.toggle("is-lost", gone);
  };

  const look = async () => {
    if (busy) return;
    busy = true;
    try {
      // A page that was busy itself may have missed an answer: it asks once more.
      const first = failures === 0;
      const response = await fetch(first ? `${source}?seen=${seen}` : source, {
        cache: "no-store",
        signal: AbortSignal.timeout(first ? patience : shortPatience),
      });
      if (!response.ok) throw new Error(String(response.status));
      const status = await response.json();
      failures = 0;
      show(false);
      seen = status.picture;
      if (remaining && status.remaining_s !== null) {
        remaining.textContent = spell(status.remaining_s);
      }
      for (const { profile, remaining_s } of status.profiles ?? []) {
        const left = document.querySelector(`[data-remaining="${profile}"]`);
        if (left && remaining_s !== null) left.textContent = spell(remaining_s);
      }
      if (seen !== shown && !leaving && !typing()) {
        location.replace(location.pathname + location.search);
        return;
      }
    } catch {
      failures += 1;
      show(failures > 1 && !leaving);
    } finally {
      busy = false;
    }
    // Nobody sees a hidden page.
    const pause = failures > 1 ? 250 : failures > 0 ? 100 : document.hidden ? 5000 : 20;
    timer = setTimeout(look, pause);
  };

  document.addEventListener("visibilitychange", () => {
    if (source && !document.hidden) {
      clearTimeout(timer);
      look();
    }
  });

  // A reload would take back what the user has just chosen.
  const leave = () => {
    leaving = true;
    setTimeout(() => {
      leaving = false;
    }, 10000);
  };
  for (const link of document.querySelectorAll("a[href]:not([href^='#'])")) {
    link.addEventListener("click", leave);
  }

  for (const form of document.querySelectorAll("form")) {
    form.addEventListener("submit", () => {
      leave();
      const button = form.querySelector("button[data-busy]");
      if (button) {
        button.textContent = button.dataset.busy;
        button.disabled = true;
      }
    });
  }

  // A question waits for its answer as it is.
  if (source) timer = setTimeout(look, 20);
})();

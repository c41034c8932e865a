// Keeps the page true without a reload: the remaining time each second, a fresh page when the
// picture changes, and a word when the program behind it is gone. Everything works without
// it, only slower.
"use strict";

(() => {
  const { picture: shown, source } = document.body.dataset;
  const remaining = document.getElementById("remaining");
  const lost = document.getElementById("lost");
  // The program answers within 0.8 seconds.
  const patience = 1500;
  let seen = shown;
  let failures = 0;
  let timer = 0;
  let busy = false;

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
      const response = await fetch(`${source}?seen=${seen}`, {
        cache: "no-store",
        signal: AbortSignal.timeout(patience),
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
      if (seen !== shown && !typing()) {
        location.replace(location.pathname + location.search);
        return;
      }
    } catch (error) {
      failures += error.name === "TimeoutError" ? 2 : 1;
      show(failures > 1);
    } finally {
      busy = false;
    }
    // Nobody sees a hidden page.
    timer = setTimeout(look, failures > 0 ? 250 : document.hidden ? 5000 : 20);
  };

  document.addEventListener("visibilitychange", () => {
    if (source && !document.hidden) {
      clearTimeout(timer);
      look();
    }
  });

  for (const form of document.querySelectorAll("form")) {
    form.addEventListener("submit", () => {
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

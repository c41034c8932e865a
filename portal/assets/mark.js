// Marks a place on a filing that is being returned: drag a rectangle over a page's picture, or
// type it. The form works without this script; here typing and drawing show each other.
"use strict";
(() => {
  const form = document.getElementById("mark-form");
  if (!form) return;
  const page = document.getElementById("page");
  const sides = ["left", "top", "width", "height"].map((id) => document.getElementById(id));
  const frames = [...document.querySelectorAll(".sheets__frame[data-page]")];
  const SVG = "http://www.w3.org/2000/svg";
  const SMALLEST = 0.5; // percent; less is a click, which marks the whole page

  const area = document.createElementNS(SVG, "svg");
  area.setAttribute("class", "marked__area");
  area.setAttribute("viewBox", "0 0 100 100");
  area.setAttribute("preserveAspectRatio", "none");
  area.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(SVG, "rect");
  area.append(rect);

  const show = () => {
    const frame = frames.find((frame) => frame.dataset.page === page.value);
    if (!frame) {
      area.remove();
      return;
    }
    const typed = sides.map((side) => side.value.trim());
    const whole = typed.every((text) => text === "");
    const numbers = whole ? [0, 0, 100, 100] : typed.map(Number);
    ["x", "y", "width", "height"].forEach((name, at) => {
      const number = numbers[at];
      rect.setAttribute(name, Number.isFinite(number) && number >= 0 ? number : 0);
    });
    frame.append(area);
  };

  const write = (frame, from, to) => {
    const left = Math.min(from.x, to.x);
    const top = Math.min(from.y, to.y);
    const width = Math.abs(from.x - to.x);
    const height = Math.abs(from.y - to.y);
    page.value = frame.dataset.page;
    const drawn = width >= SMALLEST && height >= SMALLEST;
    [left, top, width, height].forEach((number, at) => {
      sides[at].value = drawn ? (Math.floor(number * 10) / 10).toFixed(1) : "";
    });
    show();
  };

  const place = (frame, event) => {
    const box = frame.getBoundingClientRect();
    const percent = (number, size) => Math.min(100, Math.max(0, (number / size) * 100));
    return {
      x: percent(event.clientX - box.left, box.width),
      y: percent(event.clientY - box.top, box.height),
    };
  };

  frames.forEach((frame) => {
    frame.classList.add("sheets__frame--marking");
    let from = null;
    frame.addEventListener("dragstart", (event) => event.preventDefault());
    frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      from = place(frame, event);
      frame.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    frame.addEventListener("pointermove", (event) => {
      if (from) write(frame, from, place(frame, event));
    });
    frame.addEventListener("pointerup", (event) => {
      if (!from) return;
      write(frame, from, place(frame, event));
      from = null;
    });
    frame.addEventListener("pointercancel", () => {
      from = null;
    });
  });
  [page, ...sides].forEach((field) => field.addEventListener("input", show));
  show();
})();

// What is wrong with the page that is open, for people who cannot use a mouse, see little, or
// have chosen colours of their own. Answers with sentences. arguments: pass, done.
"use strict";

const [pass, done] = arguments;
const found = [];
const name = (el) => {
  const words = (el.innerText || el.value || el.getAttribute("aria-label") || "").trim();
  const id = el.id ? `#${el.id}` : "";
  return `<${el.localName}${id} class="${el.className}"> ${words.slice(0, 30)}`;
};
const seen = (el) => {
  const box = el.getBoundingClientRect();
  return el.checkVisibility({ visibilityProperty: true }) && box.width > 1 && box.height > 1;
};
// What is kept for listeners alone lies in a box of one pixel.
const hidden = (el) => {
  for (let at = el; at; at = at.parentElement) {
    if (at.clientWidth <= 1 && getComputedStyle(at).overflowX !== "visible") return true;
  }
  return false;
};
const all = (css) => [...document.querySelectorAll(css)].filter(seen);
const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";

// Where the focus is must be seen, and nothing may lie over it (WCAG 2.4.7, 2.4.11).
const focus = () => {
  for (const el of all(CONTROLS).filter((el) => !el.disabled)) {
    el.focus();
    if (document.activeElement !== el) continue;
    const style = getComputedStyle(el);
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    if (!outlined) found.push(`no visible focus (${pass}): ${name(el)}`);
    const box = el.getBoundingClientRect();
    const x = box.left + Math.min(box.width / 2, 200);
    const y = box.top + box.height / 2;
    const top = document.elementFromPoint(x, y);
    const clear = !top || el === top || el.contains(top) || top.contains(el);
    if (!clear) found.push(`focus lies under ${name(top)} (${pass}): ${name(el)}`);
  }
};

// Each error stands at its field, and the summary leads there (WCAG 3.3.1, 3.3.3).
const errors = () => {
  for (const error of all(".field__error, .field-error")) {
    const fields = [...document.querySelectorAll(`[aria-describedby~="${CSS.escape(error.id)}"]`)];
    if (!error.id || fields.length === 0) found.push(`an error without its field: ${name(error)}`);
    for (const field of fields) {
      // A group cannot be said to be invalid; its description is read out with each choice.
      if (field.localName === "fieldset") continue;
      if (field.getAttribute("aria-invalid") !== "true") found.push(`not aria-invalid: ${name(field)}`);
    }
  }
  for (const link of all(".summary a[href^='#']")) {
    const to = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (!to || !seen(to)) found.push(`the summary leads nowhere: ${link.hash}`);
  }
};

// Browsers and password safes fill in what people have already said (WCAG 1.3.5).
const autocomplete = () => {
  const personal = "input[type=password], input[type=email], input[type=tel], input[name=user_id], input[name=code]";
  for (const field of all(personal).filter((el) => el.type !== "checkbox" && el.type !== "radio")) {
    if (!field.hasAttribute("autocomplete")) found.push(`no autocomplete: ${name(field)} ${field.name}`);
  }
};

// At 400 % nothing is cut and nothing scrolls sideways (WCAG 1.4.10).
const reflow = () => {
  const over = document.documentElement.scrollWidth - innerWidth;
  if (over > 0) found.push(`${over} px too wide at ${innerWidth} px`);
  for (const el of all("body *")) {
    const style = getComputedStyle(el);
    const scrolls = ["auto", "scroll", "hidden", "clip"].includes(style.overflowX);
    const skipped = ["progress", "input", "textarea", "select"].includes(el.localName);
    if (scrolls && !skipped && el.scrollWidth > el.clientWidth + 1) {
      found.push(`cut or scrolled sideways at ${innerWidth} px: ${name(el)}`);
    }
    const box = el.getBoundingClientRect();
    if (el.children.length === 0 && box.right > innerWidth + 1 && !hidden(el)) {
      found.push(`reaches out of the window at ${innerWidth} px: ${name(el)}`);
      return;
    }
  }
};

// What can be pressed is 24 px high and wide, or stands in a line of text (WCAG 2.5.8).
const targets = () => {
  for (const el of all("a[href], button, input:not([type=hidden]), select, summary")) {
    const box = (el.closest("label") || el).getBoundingClientRect();
    const inline = el.localName === "a" && getComputedStyle(el).display === "inline";
    if (!inline && (box.width < 24 || box.height < 24)) {
      found.push(`${Math.round(box.width)}x${Math.round(box.height)} px to press: ${name(el)}`);
    }
  }
};

// With colours of the reader's own, what can be pressed still has an edge.
const edges = () => {
  for (const el of all("button, .button, .input, .select, .textarea, .chip, .banner, .card")) {
    const style = getComputedStyle(el);
    const edged = ["Top", "Bottom"].every(
      (side) => style[`border${side}Style`] !== "none" && parseFloat(style[`border${side}Width`]) >= 1,
    );
    if (!edged) found.push(`no edge in forced colours: ${name(el)}`);
  }
};

// Nothing moves for whoever asked for that.
const still = () => {
  const moving = document.getAnimations().filter((a) => !(a instanceof CSSTransition));
  if (moving.length > 0) found.push(`${moving.length} animations`);
  for (const el of all("a, button")) {
    const seconds = getComputedStyle(el).transitionDuration.split(",").map(parseFloat);
    if (seconds.some((s) => s > 0.01)) found.push(`moves: ${name(el)}`);
  }
};

if (pass === "narrow") {
  reflow();
  targets();
  edges();
  still();
  focus();
  done(found);
} else {
  errors();
  autocomplete();
  targets();
  focus();
  if (document.documentElement.lang !== "ja") found.push("the page does not say that it is Japanese");
  const options = { resultTypes: ["violations"], rules: { "target-size": { enabled: true } } };
  axe.run(document, options).then((result) => {
    for (const v of result.violations) {
      const where = v.nodes.map((n) => `${n.target.join(" ")} ${n.failureSummary}`).join(" | ");
      found.push(`axe ${v.id}: ${v.help} -> ${where}`);
    }
    done(found);
  }, (error) => done([`axe: ${error}`]));
}

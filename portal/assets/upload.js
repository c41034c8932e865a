// Sends files in parts that survive a cut connection, and hands them in together.
//
// The protocol is described in the portal's uploads/pages.rs. A file's card shows where it
// stands and what is wrong with it; nothing is received until 「提出する」 was answered with a
// receipt. Files of an earlier session go on where they stopped when they are chosen again.
"use strict";

(() => {
  const PART_BYTES = 4 * 1024 * 1024;
  // Pauses between tries; the last one is repeated. A gateway that dies is replaced in
  // seconds, but a line may be away for minutes.
  const RETRY_MS = [300, 700, 1000, 2000, 3000, 5000];
  const RETRY_FOR_MS = 5 * 60 * 1000;
  // A part that takes longer is on a connection that nobody serves any more.
  const ANSWER_LIMIT_MS = 3 * 60 * 1000;
  const FILES_AT_ONCE = 2;

  const root = document.getElementById("upload");
  if (!root) return;
  const limits = { files: Number(root.dataset.filesLimit), bytes: Number(root.dataset.fileLimitBytes) };
  const csrf = root.dataset.csrf;
  const zone = document.getElementById("dropzone");
  const input = document.getElementById("file-input");
  const list = document.getElementById("upload-cards");
  const status = document.getElementById("upload-status");
  const submit = document.getElementById("upload-submit");
  const hint = document.getElementById("upload-hint");
  const summary = document.getElementById("upload-summary");
  const duplicate = document.getElementById("duplicate");
  const duplicateReason = document.getElementById("duplicate-reason");
  const waiting = JSON.parse(root.dataset.waiting);
  const cards = [];
  let nextId = 1;
  let busy = false;
  let duplicatesConfirmed = false;

  root.hidden = false;

  const size = (bytes) =>
    bytes < 1024 * 1024 ? `${Math.max(1, Math.round(bytes / 1024))} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
  const say = (text) => { status.textContent = text; };
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const base64 = (text) => {
    let binary = "";
    for (const byte of new TextEncoder().encode(text)) binary += String.fromCharCode(byte);
    return btoa(binary);
  };
  const ask = (method, path, headers, body) =>
    fetch(path, {
      method,
      body,
      headers: { "renkei-csrf": csrf, "tus-resumable": "1.0.0", ...headers },
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
    });

  /// Pauses between tries, until progress is told or it has gone on too long.
  class Patience {
    constructor() { this.went(); }

    went() { this.tries = 0; this.since = null; }

    /// Waits a while. False if it is time to give up.
    async wait() {
      const now = performance.now();
      this.since ??= now;
      if (now - this.since > RETRY_FOR_MS) return false;
      await sleep(RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
      return true;
    }
  }
  const sentenceOf = async (response, otherwise = "送信できませんでした。") => {
    try {
      return (await response.json()).sentence || otherwise;
    } catch {
      return otherwise;
    }
  };

  // ---- One file ----

  class Card {
    constructor(file) {
      this.file = file;
      this.id = nextId++;
      this.state = "waiting"; // waiting | sending | done | failed | removed
      this.path = null;
      this.offset = 0;
      this.refused = false; // the portal found something to put right
      this.trouble = ""; // what the portal says is out of order at its end
      this.names = new Map(); // entry (or "") → { date, kind }
      this.unnamed = false; // the portal cannot tell which filing it is
      const fragment = document.getElementById("upload-card").content.cloneNode(true);
      this.root = fragment.querySelector(".upload-card");
      this.find = (name) => this.root.querySelector(`.upload-card__${name}`);
      this.find("name").textContent = file.name;
      this.find("name").id = `card-${this.id}`;
      this.find("size").textContent = size(file.size);
      this.find("progress").setAttribute("aria-label", `${file.name}の送信の進み具合`);
      const remove = this.find("remove");
      remove.setAttribute("aria-label", `${file.name}を取り消す`);
      remove.addEventListener("click", () => this.remove());
      const password = this.find("password");
      const field = password.querySelector("input");
      field.id = `password-${this.id}`;
      password.querySelector("label").htmlFor = field.id;
      const error = password.querySelector(".field__error");
      error.id = `password-error-${this.id}`;
      field.addEventListener("input", () => this.passwordError(""));
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && !submit.disabled) handIn();
      });
      password.hidden = !/\.zip$/i.test(file.name);
      list.append(fragment);
    }

    password() { return this.find("password").querySelector("input").value; }

    passwordError(text) {
      const password = this.find("password");
      const field = password.querySelector("input");
      const error = password.querySelector(".field__error");
      error.hidden = text === "";
      error.textContent = text;
      password.classList.toggle("field--error", text !== "");
      if (text === "") {
        field.removeAttribute("aria-invalid");
        field.removeAttribute("aria-describedby");
      } else {
        password.hidden = false;
        field.setAttribute("aria-invalid", "true");
        field.setAttribute("aria-describedby", error.id);
      }
    }

    tell(text, kind) {
      const line = this.find("state");
      line.textContent = text;
      line.className = `upload-card__state${kind ? ` upload-card__state--${kind}` : ""}`;
    }

    progress() {
      this.find("progress").value = (100 * this.offset) / this.file.size;
      this.tell(`送信中 ${Math.floor((100 * this.offset) / this.file.size)}%（${size(this.offset)} / ${size(this.file.size)}）`);
    }

    fail(text) {
      this.state = "failed";
      this.root.classList.add("upload-card--error");
      this.find("progress").hidden = true;
      this.tell(text, "error");
      say(`${this.file.name}：${text}`);
      update();
    }

    clearProblems() {
      this.refused = false;
      this.root.classList.remove("upload-card--error");
      this.find("problems").replaceChildren();
      this.passwordError("");
      if (this.state === "done") this.tell("送信が終わりました。まだ提出されていません", "done");
    }

    async remove() {
      this.state = "removed";
      const at = cards.indexOf(this);
      cards.splice(at, 1);
      this.root.remove();
      say(`${this.file.name}を取り消しました。`);
      (cards[Math.min(at, cards.length - 1)]?.find("remove") || input).focus();
      if (this.path) ask("DELETE", this.path, {}).catch(() => {});
      update();
      pump();
    }

    async begin() {
      const at = waiting.findIndex((old) => old.name === this.file.name && old.length === this.file.size);
      if (at >= 0) {
        const [old] = waiting.splice(at, 1);
        const response = await ask("HEAD", old.path, {});
        if (response.ok) {
          this.path = old.path;
          // What an earlier session sent is believed only if the beginning of the file is
          // the same: names and sizes repeat.
          this.offset = await this.sameBeginning(old) ? Number(response.headers.get("upload-offset")) : 0;
          if (this.offset > 0) return true;
          ask("DELETE", old.path, {}).catch(() => {});
          this.path = null;
        }
      }
      const response = await ask("POST", "/uploads", {
        "upload-length": String(this.file.size),
        "upload-metadata": `filename ${base64(this.file.name)}`,
      });
      if (response.status === 201) {
        this.path = response.headers.get("location");
        remember(this.path, await fingerprint(this.file));
        return true;
      }
      this.fail(await sentenceOf(response));
      return false;
    }

    async sameBeginning(old) {
      const known = recall(old.path);
      return known !== null && known === (await fingerprint(this.file));
    }

    /// Sends what is missing. Network errors and a busy portal are tried again for a while.
    async send() {
      this.state = "sending";
      this.tell("送信の準備をしています");
      const patience = new Patience();
      while (this.state === "sending") {
        try {
          if (this.path === null && !(await this.begin())) return;
          if (await this.sendParts(() => patience.went())) return;
        } catch (error) {
          this.trouble = "";
          if (error.name === "NotReadableError") {
            this.fail("ファイルを読み取れませんでした。ファイルが開かれているか、移動された可能性があります。閉じてから選び直してください。");
            return;
          }
        }
        if (this.state !== "sending") return;
        if (patience.tries === 0) say(`${this.file.name}：通信が途切れました。自動で再開します。`);
        this.tell(this.trouble ? `${this.trouble}（自動でやり直しています…）` : "通信が途切れました。自動で再開します…");
        if (!(await patience.wait())) {
          this.fail(this.trouble || "接続が切れたため、送信できませんでした。接続し直してから、同じファイルを選び直すと、続きから送信します。");
          return;
        }
        await this.askOffset();
      }
    }

    async askOffset() {
      if (this.path === null) return;
      try {
        const response = await ask("HEAD", this.path, {});
        if (response.ok) this.offset = Number(response.headers.get("upload-offset"));
        else if (response.status === 404) { this.path = null; this.offset = 0; }
      } catch { /* the next attempt tells */ }
    }

    /// Returns true when there is nothing more to do: sent, failed or removed.
    async sendParts(went) {
      while (this.offset < this.file.size) {
        if (this.state !== "sending") return true;
        this.progress();
        const part = await this.file.slice(this.offset, this.offset + PART_BYTES).arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", part));
        const response = await ask("PATCH", this.path, {
          "content-type": "application/offset+octet-stream",
          "upload-checksum": `sha256 ${btoa(String.fromCharCode(...digest))}`,
          "upload-offset": String(this.offset),
        }, part);
        if (this.state !== "sending") return true;
        if (response.status === 204) {
          this.offset = Number(response.headers.get("upload-offset"));
          this.trouble = "";
          went();
        } else if (response.status === 409 && response.headers.has("upload-offset")) {
          this.offset = Number(response.headers.get("upload-offset"));
        } else if (response.status >= 500 || response.status === 408 || response.status === 404 || response.status === 460) {
          this.trouble = response.status === 404 || response.status === 460 ? "" : await sentenceOf(response, "");
          return false;
        } else {
          this.fail(await sentenceOf(response));
          return true;
        }
      }
      this.state = "done";
      this.find("progress").value = 100;
      this.find("progress").hidden = true;
      this.tell("送信が終わりました。まだ提出されていません", "done");
      await this.suggest();
      say(`${this.file.name}の送信が終わりました。`);
      update();
      return true;
    }

    // ---- What it will be called ----

    /// Asks what the filing should be called, and lets the sender choose, unless the file's own
    /// name is right. Without an answer the portal says at 提出 what is wrong.
    async suggest() {
      if (/\.zip$/i.test(this.file.name)) return;
      try {
        const response = await ask("GET", `${this.path}/name`, {});
        if (!response.ok) return;
        const found = await response.json();
        if (found.is_right) return;
        const { set, filled } = this.nameForm("", { date: found.date, kind: found.kind || "" });
        set.querySelector("legend").textContent = "この届書の名前";
        this.find("naming").replaceChildren(set);
        this.unnamed = !filled;
      } catch { /* said at 提出 */ }
    }

    // ---- What is wrong with it ----

    show(problems) {
      this.clearProblems();
      this.refused = true;
      this.root.classList.add("upload-card--error");
      for (const problem of problems) {
        if (problem.remedy === "password") {
          this.passwordError(problem.sentence);
          continue;
        }
        const item = document.createElement("li");
        item.className = "problem";
        if (problem.entry) {
          const entry = document.createElement("p");
          entry.className = "problem__entry";
          entry.textContent = problem.entry;
          item.append(entry);
        }
        const sentence = document.createElement("p");
        sentence.className = "problem__sentence";
        const mark = document.createElement("span");
        mark.className = "mark mark--error";
        mark.setAttribute("aria-hidden", "true");
        mark.textContent = "!";
        sentence.append(mark, problem.sentence);
        item.append(sentence);
        if (problem.remedy === "name") item.append(this.nameRemedy(problem));
        this.find("problems").append(item);
      }
      this.tell("提出できませんでした", "error");
    }

    nameRemedy(problem) {
      const entry = problem.entry || "";
      const box = document.createElement("div");
      const choose = (name) => this.names.set(entry, name);
      if (problem.suggestion) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "button button--outline";
        button.textContent = `「${problem.suggestion.name}」の名前で提出する`;
        button.addEventListener("click", () => {
          choose({ date: problem.suggestion.date, kind: problem.suggestion.kind });
          handIn();
        });
        box.append(button);
      }
      this.find("naming").replaceChildren();
      const { set } = this.nameForm(entry, this.names.get(entry) || problem.suggestion || {});
      if (problem.suggestion) {
        const details = document.createElement("details");
        details.className = "details";
        const title = document.createElement("summary");
        title.textContent = "届出年月日と届書名称を選び直す";
        details.append(title, set);
        box.append(details);
      } else {
        box.append(set);
      }
      return box;
    }

    /// Date and kind to choose. What is known of both is chosen already.
    nameForm(entry, known) {
      const choose = (name) => this.names.set(entry, name);
      const form = document.getElementById("name-form").content.cloneNode(true);
      const set = form.querySelector("fieldset");
      const date = form.querySelector(".name-form__date");
      const kind = form.querySelector(".name-form__kind");
      const result = form.querySelector(".name-form__result");
      date.value = known.date || "";
      kind.value = known.kind || "";
      for (const [field, name] of [[date, "date"], [kind, "kind"]]) {
        field.id = `${name}-${this.id}-${nextId++}`;
        field.closest(".field").querySelector("label").htmlFor = field.id;
        field.addEventListener("input", () => { told(); update(); });
      }
      const told = () => {
        const filled = date.value !== "" && kind.value !== "";
        if (filled) {
          choose({ date: date.value, kind: kind.value });
          const label = kind.selectedOptions[0].textContent;
          result.textContent = `「${date.value.replaceAll("-", "")}_${root.dataset.number}_${label}.pdf」として提出します。`;
        } else {
          this.names.delete(entry);
          result.textContent = "";
        }
        this.unnamed = !filled;
        return filled;
      };
      return { set, filled: (known.date || known.kind) ? told() : false };
    }
  }

  // ---- What an earlier session sent ----

  const remember = (path, print) => {
    try { localStorage.setItem(`renkei:${path}`, print); } catch { /* private mode */ }
  };
  const recall = (path) => {
    try { return localStorage.getItem(`renkei:${path}`); } catch { return null; }
  };
  const fingerprint = async (file) => {
    const ends = [file.slice(0, 65536), file.slice(Math.max(0, file.size - 65536))];
    const bytes = await new Blob(ends).arrayBuffer();
    const digest = await crypto.subtle.digest("SHA-256", bytes);
    const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return `${file.size}:${file.lastModified}:${hex}`;
  };

  // ---- All files ----

  const update = () => {
    const done = cards.filter((card) => card.state === "done").length;
    const sending = cards.filter((card) => card.state === "waiting" || card.state === "sending").length;
    const failed = cards.filter((card) => card.state === "failed").length;
    const refused = cards.filter((card) => card.refused).length;
    const unnamed = cards.filter((card) => card.state === "done" && card.unnamed && !card.refused).length;
    submit.disabled = busy || done === 0 || sending > 0 || unnamed > 0;
    submit.textContent = duplicatesConfirmed ? "このまま提出する" : "提出する";
    if (busy) hint.textContent = "ファイルの中身を確認しています。しばらくお待ちください。";
    else if (sending > 0) hint.textContent = "送信が終わるまでお待ちください。";
    else if (unnamed > 0) hint.textContent = `${unnamed}個のファイルの届書名称を選んでください。`;
    else if (refused > 0) hint.textContent = `${refused}個のファイルに直すところがあります。赤い表示をご確認のうえ、直してから「提出する」を押してください。`;
    else if (failed > 0 && done > 0) hint.textContent = `${done}個のファイルを提出できます。${failed}個のファイルは送信できていないため、提出に含まれません。`;
    else if (failed > 0) hint.textContent = "送信できなかったファイルがあります。赤い表示をご確認ください。";
    else if (done > 0) hint.textContent = `${done}個のファイルを提出できます。`;
    else hint.textContent = "ファイルを選ぶと、送信が始まります。送信が終わったら「提出する」を押してください。";
  };

  const pump = () => {
    let sending = cards.filter((card) => card.state === "sending").length;
    for (const card of cards) {
      if (sending >= FILES_AT_ONCE) break;
      if (card.state === "waiting") {
        sending += 1;
        card.send().then(pump);
      }
    }
    update();
  };

  const add = (files) => {
    duplicatesConfirmed = false;
    duplicate.hidden = true;
    hideSummary();
    const wrong = [];
    for (const file of files) {
      if (cards.length >= limits.files) {
        wrong.push(`一度に提出できるファイルは${limits.files}個までです。「${file.name}」は追加されませんでした。`);
      } else if (cards.some((card) => card.file.name === file.name && card.file.size === file.size && card.file.lastModified === file.lastModified)) {
        wrong.push(`「${file.name}」はすでに選ばれています。`);
      } else if (file.size === 0) {
        wrong.push(`「${file.name}」は中身が空です。正しいファイルを選んでください。`);
      } else if (file.size > limits.bytes) {
        wrong.push(`「${file.name}」は大きすぎます（${Math.floor(limits.bytes / 1024 / 1024)}MBまで）。分けて選んでください。`);
      } else {
        cards.push(new Card(file));
      }
    }
    if (wrong.length > 0) showSummary("追加できなかったファイルがあります", wrong.map((text) => ({ text })));
    else if (cards.length > 0) say(`${cards.length}個のファイルが選ばれています。`);
    pump();
  };

  const showSummary = (title, lines) => {
    document.getElementById("upload-summary-title").textContent = title;
    const items = lines.map(({ text, target, href }) => {
      const item = document.createElement("li");
      if (target || href) {
        const link = document.createElement("a");
        link.href = href || `#${target}`;
        if (href) link.target = "_blank";
        link.textContent = text;
        item.append(link);
      } else {
        item.textContent = text;
      }
      return item;
    });
    document.getElementById("upload-summary-list").replaceChildren(...items);
    summary.hidden = false;
    summary.focus();
  };
  const hideSummary = () => { summary.hidden = true; };

  /// Asks again while the connection is broken. What was received already is answered with
  /// its receipt, so that nothing is handed in twice.
  const askUntilAnswered = async (path, body) => {
    const patience = new Patience();
    for (;;) {
      try {
        const response = await ask("POST", path, { "content-type": "application/json" }, body);
        if (response.status !== 502 && response.status !== 504) return response;
      } catch (error) {
        if (error.name === "TimeoutError") throw error;
      }
      hint.textContent = "通信が途切れました。自動で再開します…";
      if (!(await patience.wait())) throw new Error("no answer");
      hint.textContent = "ファイルの中身を確認しています。しばらくお待ちください。";
    }
  };

  const handIn = async () => {
    const ready = cards.filter((card) => card.state === "done");
    if (busy || ready.length === 0) return;
    busy = true;
    hideSummary();
    for (const card of ready) card.clearProblems();
    update();
    say("ファイルの中身を確認しています。");
    const body = {
      files: ready.map((card) => ({
        upload: card.path.split("/").pop(),
        password: card.password() || null,
        names: Array.from(card.names, ([entry, name]) => ({ entry: entry || null, ...name })),
      })),
      duplicates_confirmed: duplicatesConfirmed,
      duplicate_reason: duplicateReason.value,
      replaces: root.dataset.replaces || null,
    };
    try {
      const response = await askUntilAnswered("/filings", JSON.stringify(body));
      const answer = await response.json();
      if (response.status === 201) {
        for (const card of ready) {
          try { localStorage.removeItem(`renkei:${card.path}`); } catch { /* private mode */ }
        }
        leaving = true;
        location.assign(answer.receipt);
        return;
      }
      refused(ready, answer);
    } catch {
      showSummary("提出の結果を確認できませんでした", [
        { text: "接続が途切れました。もう一度「提出する」を押してください。すでに受け付けられているときは、受付票が表示されます（二重には受け付けません）。" },
      ]);
    } finally {
      busy = false;
      update();
    }
  };

  const refused = (ready, answer) => {
    const cardOf = (upload) => ready.find((card) => card.path.endsWith(upload));
    const lines = [];
    for (const file of answer.files || []) {
      const card = cardOf(file.upload);
      if (!card) continue;
      card.show(file.problems);
      const password = file.problems.some((problem) => problem.remedy === "password");
      lines.push({
        text: `${card.file.name}：${file.problems.map((problem) => problem.sentence)[0]}`,
        target: password ? `password-${card.id}` : `card-${card.id}`,
      });
    }
    for (const same of answer.duplicates || []) {
      const card = cardOf(same.upload);
      lines.push({ text: same.sentence, target: card ? `card-${card.id}` : undefined });
      if (same.link) lines.push({ text: "前に提出した届書を見る（別の画面で開きます）", href: same.link });
      duplicatesConfirmed = true;
      duplicate.hidden = false;
    }
    showSummary(answer.sentence || "提出できませんでした。", lines);
  };

  // ---- The page ----

  input.addEventListener("change", () => {
    add(Array.from(input.files));
    input.value = "";
  });
  submit.addEventListener("click", handIn);
  let depth = 0;
  const over = (on) => zone.classList.toggle("dropzone--over", on);
  // The whole window takes files: one that misses the box must not be opened by the browser.
  window.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; over(true); });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); over(depth > 0); });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(false);
    if (event.dataTransfer) add(Array.from(event.dataTransfer.files));
  });
  let leaving = false;
  window.addEventListener("beforeunload", (event) => {
    if (!leaving && cards.length > 0) event.preventDefault();
  });
  update();
})();

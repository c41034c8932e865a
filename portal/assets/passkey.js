// Asks the browser to make or to show a passkey, and sends its answer with the button's form.
// Without this script, or in a browser that knows no passkeys, the buttons stay hidden.
"use strict";

(() => {
  const SENTENCES = {
    NotAllowedError:
      "確認が取り消されたか、時間内に終わりませんでした。もう一度お試しください。",
    InvalidStateError: "このパソコンのパスキーは、すでに登録されています。",
  };
  const OTHERWISE =
    "パスキーを使えませんでした。もう一度お試しになるか、ほかの方法で確認してください。";
  if (
    !window.PublicKeyCredential?.parseCreationOptionsFromJSON ||
    !window.PublicKeyCredential?.parseRequestOptionsFromJSON
  )
    return;

  /** What the server asks. */
  const ask = async (url, csrf) => {
    const answer = await fetch(url, {
      method: "POST",
      headers: { accept: "application/json", "renkei-csrf": csrf },
    });
    const body = await answer.json();
    if (!answer.ok) throw { sentence: body.sentence };
    return body;
  };

  /** What the person's device answers. */
  const answer = (act, options) =>
    act === "create"
      ? navigator.credentials.create({
          publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options),
        })
      : navigator.credentials.get({
          publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options),
        });

  const hidden = (form, name, value) => {
    let field = form.querySelector(`input[name="${name}"]`);
    if (!field) {
      field = document.createElement("input");
      field.type = "hidden";
      field.name = name;
      form.append(field);
    }
    field.value = value;
  };

  for (const button of document.querySelectorAll("[data-passkey]")) {
    const form = button.form;
    const place = document.getElementById(button.dataset.errors);
    for (const part of document.querySelectorAll("[data-passkey-part]")) part.hidden = false;
    button.hidden = false;
    button.addEventListener("click", async () => {
      if (button.dataset.passkey === "create" && !form.reportValidity()) return;
      place.hidden = true;
      button.disabled = true;
      try {
        const options = await ask(button.dataset.ask, form.elements.csrf.value);
        const given = await answer(button.dataset.passkey, options);
        hidden(form, button.dataset.field, JSON.stringify(given.toJSON()));
        if (button.dataset.also) hidden(form, button.dataset.also, "passkey");
        form.submit();
      } catch (error) {
        place.textContent = error.sentence ?? SENTENCES[error.name] ?? OTHERWISE;
        place.hidden = false;
        button.disabled = false;
      }
    });
  }
})();

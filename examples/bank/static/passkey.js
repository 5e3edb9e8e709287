// The only script of the bank: it hands the server's options to the browser's passkeys, and the
// answer back in the form. Everything else works without it.
"use strict";

const toBytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));

const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const named = (keys) => (keys || []).map((each) => ({ ...each, id: toBytes(each.id) }));

const options = (form) => {
  const given = JSON.parse(form.dataset.options);
  given.challenge = toBytes(given.challenge);
  if (given.user) given.user.id = toBytes(given.user.id);
  if (given.allowCredentials) given.allowCredentials = named(given.allowCredentials);
  if (given.excludeCredentials) given.excludeCredentials = named(given.excludeCredentials);
  return { publicKey: given };
};

const asJson = (made) => {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (made.response[name]) response[name] = toText(made.response[name]);
  }
  return JSON.stringify({ id: made.id, rawId: toText(made.rawId), type: made.type, response });
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const told = form.querySelector("[data-told]");
    told.textContent = "";
    try {
      form.elements.credential.value = asJson(await navigator.credentials[form.dataset.passkey](options(form)));
      form.submit();
    } catch {
      told.textContent = "No passkey was used. Try again, or choose another way.";
    }
  });
}

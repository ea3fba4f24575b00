// One conversation: new messages as they come, an answer, a move, the end.
"use strict";

(() => {
  const main = document.querySelector("main"), list = document.getElementById("mensagens");
  const EVERY = 3000; // milliseconds
  const base = `/v1/conversations/${main.dataset.conversation}`;
  let drawn = null;

  function toEnd() { list.scrollTop = list.scrollHeight; }

  async function refresh() {
    if ([...list.querySelectorAll("audio, video")].some((one) => !one.paused)) return; // do not cut in
    const part = await (await Figueira.page(`/console/conversas/${main.dataset.conversation}/mensagens`)).text();
    if (part === drawn) return;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    list.innerHTML = part; // escaped by the server
    Figueira.times(list);
    drawn = part;
    if (atEnd) toEnd();
    await seen();
  }

  // What the page shows is read: once for each new message of the contact, and only by who may answer.
  let read = null;
  async function seen(typing = false) {
    const newest = [...list.querySelectorAll(".message.inbound")].pop()?.dataset.seq ?? null;
    if (!main.dataset.reads || document.hidden || (newest === read && !typing)) return;
    read = newest;
    try { await Figueira.change("POST", `${base}/read`, { typing }); } catch { /* the next message tells it again */ }
  }

  async function follow() {
    try { await refresh(); } catch { /* the next round tries again */ }
    setTimeout(follow, EVERY);
  }

  function on(id, act) {
    const form = document.getElementById(id);
    form?.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      try { await act(form); } catch (error) { Figueira.tell(error.message, true); } finally { button.disabled = false; }
    });
    return form;
  }

  // What is tried again unchanged keeps its key, so it is queued once; a file keeps what it was uploaded as.
  const keys = new Map(), uploads = new WeakMap();
  async function send(body) {
    const written = JSON.stringify(body);
    if (!keys.has(written)) keys.set(written, Figueira.key());
    const { told } = await Figueira.change("POST", `${base}/messages`, body, { "Idempotency-Key": keys.get(written) });
    keys.delete(written);
    return told;
  }

  async function shown(told) {
    if (told.conversation_id !== main.dataset.conversation || !main.dataset.live) {
      location.assign(`/console/conversas/${told.conversation_id}`);
      return;
    }
    await refresh();
    toEnd();
  }

  async function sendFile(file, text) {
    if (!uploads.has(file)) uploads.set(file, await Figueira.upload(`/console/conversas/${main.dataset.conversation}/arquivo`, file));
    const { id, mime } = uploads.get(file);
    const bare = mime.startsWith("audio/") || mime === "image/webp"; // such messages carry no caption
    const told = await send({ media: { media_id: id, ...(text && !bare ? { caption: text } : {}) } });
    return text && bare ? send({ text }) : told;
  }

  const answer = on("responder", async (form) => {
    const text = form.elements.text.value.trim(), [file] = form.elements.file.files;
    if (!text && !file) throw new Error("Escreva uma mensagem ou escolha um arquivo.");
    const told = file ? await sendFile(file, text) : await send({ text });
    form.reset();
    await shown(told);
  });

  on("modelo", async (form) => {
    const { template, language, lines } = form.elements;
    const parameters = lines.value.split("\n").map((line) => line.trim()).filter(Boolean)
      .map((text) => ({ type: "text", text }));
    const told = await send({
      template: {
        name: template.value.trim(),
        language: { code: language.value.trim() },
        ...(parameters.length ? { components: [{ type: "body", parameters }] } : {}),
      },
    });
    form.reset();
    await shown(told);
  });

  answer?.elements.text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      answer.requestSubmit();
    }
  });

  on("mover", async (form) => {
    await Figueira.change("POST", `${base}/move`, { path: form.dataset.to, reason: form.elements.reason.value });
    location.reload();
  });
  on("encerrar", async () => {
    await Figueira.change("POST", `${base}/close`);
    location.reload();
  });

  on("descadastro", async (form) => {
    await Figueira.change("PUT", `/v1/contacts/${main.dataset.contact}/opt-out`,
      { opted_out: Boolean(form.dataset.opted), reason: form.elements.reason.value });
    location.reload();
  });

  list.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-fetch]");
    if (!button) return;
    button.disabled = true;
    try {
      await Figueira.change("POST", `/v1/media/${button.dataset.fetch}/fetch`);
      Figueira.tell("O arquivo será buscado de novo.");
    } catch (error) {
      Figueira.tell(error.message, true);
      button.disabled = false;
    }
  });

  const TYPING = 20000; // milliseconds: about as long as the contact is shown that somebody writes
  let told = 0;
  answer?.elements.text.addEventListener("input", () => {
    if (!main.dataset.native || Date.now() - told < TYPING) return;
    told = Date.now();
    seen(true);
  });

  // A picture or a player that has come makes the list longer: who was at its end stays there.
  let pinned = true;
  list.addEventListener("scroll", () => { pinned = list.scrollHeight - list.scrollTop - list.clientHeight < 60; });
  for (const come of ["load", "loadedmetadata"]) list.addEventListener(come, () => { if (pinned) toEnd(); }, true);
  toEnd();
  if (main.dataset.live) { seen(); follow(); }
})();

// One conversation: new messages as they come, an answer, a move, the end.
"use strict";

(() => {
  const main = document.querySelector("main"), list = document.getElementById("mensagens");
  const EVERY = 3000; // milliseconds
  const base = `/v1/conversations/${main.dataset.conversation}`;
  let shown = null;

  function toEnd() { list.scrollTop = list.scrollHeight; }

  async function refresh() {
    const part = await (await Figueira.page(`/console/conversas/${main.dataset.conversation}/mensagens`)).text();
    if (part === shown) return;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    list.innerHTML = part; // escaped by the server
    Figueira.times(list);
    shown = part;
    if (atEnd) toEnd();
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

  let sending = null; // {text, key}: the same text tried again keeps its key, so it is queued once
  const answer = on("responder", async (form) => {
    const text = form.elements.text.value;
    if (sending?.text !== text) sending = { text, key: Figueira.key() };
    const { told } = await Figueira.change("POST", `${base}/messages`, { text }, { "Idempotency-Key": sending.key });
    sending = null;
    form.reset();
    if (told.conversation_id !== main.dataset.conversation || !main.dataset.live) {
      location.assign(`/console/conversas/${told.conversation_id}`);
      return;
    }
    await refresh();
    toEnd();
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

  toEnd();
  if (main.dataset.live) follow();
})();

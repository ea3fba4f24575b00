// Shared by every page: times in the reader's zone, calls of the HTTP interface, the note at the foot.
"use strict";

const Figueira = (() => {
  const csrf = document.querySelector('meta[name="figueira-csrf"]')?.content ?? "";
  const hour = new Intl.DateTimeFormat("pt-BR", { timeStyle: "short" });
  const clock = new Intl.DateTimeFormat("pt-BR", { dateStyle: "short", timeStyle: "short" });

  const REFUSALS = {
    csrf: "A sessão mudou. Recarregue a página.",
    missing_scope: "Seu perfil não permite isto.",
    other_tenant: "Seu perfil só muda a regra da própria clínica.",
    revision_moved: "Outra pessoa mudou este canal nesse meio-tempo. Simule de novo.",
    cannot_divide: "Este canal não pode ir ao nativo: falta app_secret em [channels.….native], que assina de novo um lote dividido.",
    percent_missing: "Diga a parte em %, um número inteiro de 0 a 100.",
    percent_invalid: "A parte é um número inteiro de 0 a 100.",
    gated: "Este estágio ainda não pode ser escolhido.",
    retired: "Este tipo está aposentado: não há Rocket.Chat para onde voltar.",
    no_override: "Não há parada de emergência em vigor.",
    reason_missing: "Diga o motivo.",
    conversation_closed: "A conversa já foi encerrada.",
    no_room_on_path: "O Rocket.Chat não tem sala aberta para esta conversa. Mova-a para o nativo, ou espere o contato escrever.",
    unsupported: "Este caminho não envia este tipo de mensagem.",
    invalid_content: "O conteúdo não está na forma que o canal aceita.",
    invalid_media: "Este arquivo não pode ser enviado assim.",
    unknown_media: "O arquivo não está mais guardado. Escolha-o de novo.",
    too_large: "O arquivo é grande demais.",
    empty_file: "O arquivo está vazio.",
    no_file_store: "Esta instalação não guarda arquivos.",
    media_gone: "O arquivo não existe mais na origem.",
    empty: "Escreva uma mensagem ou escolha um arquivo.",
    window_closed: "A janela de 24 horas do contato fechou: só um modelo aprovado pode ser enviado.",
    opted_out: "O contato pediu para não receber mensagens.",
    unavailable: "O banco de dados não respondeu. Tente de novo.",
    busy: "Outros estão mudando o mesmo. Tente de novo.",
  };

  // A time that is near: without its day when that is today.
  function near(stamp) {
    const at = new Date(stamp);
    return (at.toDateString() === new Date().toDateString() ? hour : clock).format(at);
  }

  function times(root) {
    for (const one of root.querySelectorAll("time[datetime]")) {
      one.textContent = "near" in one.dataset ? near(one.dateTime) : clock.format(new Date(one.dateTime));
    }
  }

  let hiding;
  function tell(words, bad = false) {
    const note = document.getElementById("recado");
    note.textContent = words;
    note.classList.toggle("bad", bad);
    note.hidden = false;
    clearTimeout(hiding);
    hiding = setTimeout(() => { note.hidden = true; }, 6000);
  }

  function login() {
    location.assign(`/console/login?voltar=${encodeURIComponent(location.pathname)}`);
  }

  // A GET of a page of ours; a redirect means that the session has ended.
  async function page(address) {
    const answer = await fetch(address, { redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") {
      login();
      throw new Error("session");
    }
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  }

  // A change by /v1; throws an Error whose message is for a person.
  function change(method, address, body, headers = {}) {
    return ask(method, address, JSON.stringify(body ?? {}), { "Content-Type": "application/json", ...headers });
  }

  async function ask(method, address, body, headers) {
    let answer;
    try {
      answer = await fetch(address, { method, headers: { "X-Figueira-Csrf": csrf, ...headers }, body });
    } catch {
      throw new Error("Sem resposta do servidor. Tente de novo.");
    }
    if (answer.status === 401) login();
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(REFUSALS[told.code] ?? told.detail ?? `O servidor respondeu ${answer.status}.`);
    return { told, etag: answer.headers.get("ETag") };
  }

  // The bytes of a file, as they are; the answer names what it is kept as.
  async function upload(address, file) {
    const type = file.type || "application/octet-stream";
    return (await ask("POST", `${address}?filename=${encodeURIComponent(file.name)}`, file, { "Content-Type": type })).told;
  }

  // 128 random bits in hex; crypto.randomUUID is missing where the page came by plain http.
  function key() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");
  }

  times(document);
  return { times, near, tell, page, change, upload, key };
})();

// Changing a stage: a dry run first, then the very same change; and stopping a kind in an emergency.
"use strict";

(() => {
  const flip = document.getElementById("virar"), stop = document.getElementById("parar");
  if (!flip) return;
  const KINDS = { whatsapp: "WhatsApp", instagram: "Instagram", messenger: "Messenger", telegram: "Telegram", sms: "SMS", email: "E-mail", webchat: "Chat do site" };
  let card = null;
  let simulated = null; // {body, etag} of the dry run that `Aplicar` repeats
  let acting = null; // kill or release

  function warning(words) {
    const skip = /^(.*: )?(\w+) → (\w+) skips (.+)$/.exec(words);
    if (skip) return `${skip[1] ?? ""}de ${skip[2]} a ${skip[3]} pula ${skip[4]}`;
    if (words.includes("routes as rocketchat")) return "shadow ainda roteia como rocketchat: nada é comparado";
    if (words.includes("override is in force")) return "há uma parada de emergência em vigor, que vale antes: libere-a para a mudança ter efeito";
    return words;
  }

  function list(preview, head, lines, bad = false) {
    preview.replaceChildren(head);
    preview.classList.toggle("bad", bad);
    if (lines.length) {
      const items = document.createElement("ul");
      for (const [words, kind] of lines) {
        const item = document.createElement("li");
        item.textContent = words;
        if (kind) item.className = kind;
        items.append(item);
      }
      preview.append(items);
    }
    preview.hidden = false;
  }

  function counted(count, one, many) { return count === 1 ? `1 ${one}` : `${count} ${many}`; }

  function open(dialog, button) {
    card = button.closest("[data-channel]");
    dialog.querySelector("[data-kind-name]").textContent = KINDS[card.dataset.kind] ?? card.dataset.kind;
    dialog.querySelector("form").reset();
    dialog.querySelector(".preview").hidden = true;
  }

  // ------------------------------------------------------------------------------------------- the stage
  const form = flip.querySelector("form").elements;
  const apply = flip.querySelector("[data-apply]"), preview = flip.querySelector(".preview");

  function canary() { flip.querySelector("[data-percent]").hidden = form.stage.value !== "canary"; }
  function stale() { simulated = null; apply.disabled = true; preview.hidden = true; canary(); }

  function openFlip(button) {
    open(flip, button);
    for (const option of form.scope.options) {
      option.textContent = option.dataset.text.replace(/\{(\w+)\}/g, (_, name) => name === "kind" ? KINDS[card.dataset.kind] ?? card.dataset.kind : card.dataset[name]);
    }
    form.stage.value = card.querySelector(".badge.stage").dataset.stage;
    stale();
    flip.showModal();
  }

  function wanted() {
    const body = { stage: form.stage.value, now: form.now.checked, reason: form.reason.value };
    if (body.stage === "canary") body.percent = form.percent.value === "" ? null : Number(form.percent.value);
    if (form.scope.value === "channel") body.channels = [card.dataset.channel];
    if (form.scope.value === "tenant") body.tenants = [card.dataset.tenant];
    return body;
  }

  async function simulate() {
    if (!form.reason.value.trim()) { form.reason.focus(); list(preview, "Diga o motivo.", [], true); return; }
    const body = wanted();
    try {
      const { told, etag } = await Figueira.change("PUT", `/v1/flags/${card.dataset.kind}`, { ...body, dry_run: true });
      const tenants = Object.entries(told.dry_run);
      const lines = told.warnings.map((words) => [`Atenção: ${warning(words)}`, "warn"]);
      for (const [tenant, { open: abertas, would_move: moveriam }] of tenants) {
        const moves = body.now ? `${counted(moveriam, "muda", "mudam")} de caminho agora` : `ficam onde estão (${moveriam} mudariam)`;
        lines.push([`${tenant}: ${counted(abertas, "conversa aberta", "conversas abertas")}, ${moves}`]);
      }
      if (!tenants.length) lines.push(["Nenhuma conversa aberta."]);
      list(preview, "Simulação: nada foi gravado ainda.", lines);
      simulated = { body, etag };
      apply.disabled = false;
    } catch (error) {
      list(preview, error.message, [], true);
    }
  }

  async function confirm() {
    apply.disabled = true;
    try {
      const { told } = await Figueira.change("PUT", `/v1/flags/${card.dataset.kind}`, simulated.body, { "If-Match": simulated.etag });
      flip.close();
      Figueira.tell(`Gravado: ${told.kind} na revisão ${told.revision}` + (told.moved ? `, ${counted(told.moved, "conversa movida", "conversas movidas")}.` : "."));
    } catch (error) {
      stale();
      list(preview, error.message, [], true);
    }
  }

  flip.querySelector("form").addEventListener("input", stale);
  flip.querySelector("[data-preview]").addEventListener("click", simulate);
  apply.addEventListener("click", confirm);

  // --------------------------------------------------------------------------------------- the emergency
  const WORDS = {
    kill: ["Parar", "Parar agora", "Conversas novas deste tipo vão ao Rocket.Chat em todos os canais e clínicas, antes de qualquer regra, até alguém liberar."],
    release: ["Liberar", "Liberar", "O estágio e as regras voltam a decidir. Nenhuma conversa aberta é movida de volta."],
  };

  function openStop(button) {
    const [title, verb, words] = WORDS[button.dataset.act];
    open(stop, button);
    acting = button.dataset.act;
    stop.querySelector("[data-title]").textContent = title;
    stop.querySelector("[data-words]").textContent = words;
    stop.querySelector("[data-now]").hidden = button.dataset.act === "release";
    stop.querySelector("[data-apply]").textContent = verb;
    stop.showModal();
  }

  async function act() {
    const fields = stop.querySelector("form").elements, told = stop.querySelector(".preview");
    if (!fields.reason.value.trim()) { fields.reason.focus(); list(told, "Diga o motivo.", [], true); return; }
    try {
      const { told: flag } = await Figueira.change("POST", `/v1/flags/${card.dataset.kind}/${acting}`, { reason: fields.reason.value, now: fields.now.checked });
      stop.close();
      Figueira.tell(`Gravado: ${flag.kind} na revisão ${flag.revision}` + (flag.moved ? `, ${counted(flag.moved, "conversa movida", "conversas movidas")}.` : "."));
    } catch (error) {
      list(told, error.message, [], true);
    }
  }

  stop.querySelector("[data-apply]").addEventListener("click", act);
  for (const dialog of [flip, stop]) {
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.querySelector("form").addEventListener("submit", (event) => event.preventDefault()); // Enter applies nothing
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button?.dataset.act === "flip") openFlip(button);
    else if (button) openStop(button);
  });
})();

// The channels, live: the stream where the role may read it, else (and for Rocket.Chat's state) asking again.
"use strict";

(() => {
  const main = document.querySelector("main");
  const STREAM_RETRY = 15000, WITH_STREAM = 5000, WITHOUT_STREAM = 2000; // milliseconds
  const live = document.getElementById("vivo");
  let source = null;

  function span(seconds) {
    for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
    }
    return `${Math.floor(seconds)} s`;
  }

  function set(cell, value) {
    const text = String(value);
    if (cell.textContent === text) return;
    cell.textContent = text;
    cell.classList.remove("changed");
    void cell.offsetWidth; // starts the animation again
    cell.classList.add("changed");
  }

  function steps(card, stage) {
    let reached = false;
    for (const step of card.querySelectorAll("[data-step]")) {
      const here = step.dataset.step === stage;
      reached ||= here;
      step.classList.toggle("done", !reached);
      if (here) step.setAttribute("aria-current", "step"); else step.removeAttribute("aria-current");
      if (here) card.querySelector("[data-meaning]").textContent = step.title;
    }
  }

  function show(channel) {
    const card = document.querySelector(`[data-channel="${CSS.escape(channel.channel)}"]`);
    if (!card) return;
    const badge = card.querySelector(".badge.stage");
    badge.dataset.stage = channel.stage;
    badge.textContent = channel.percent === null ? channel.stage : `${channel.stage} ${channel.percent} %`;
    steps(card, channel.stage);
    const stopped = channel.override !== null;
    card.querySelector("[data-override]").hidden = !stopped;
    card.querySelector("[data-override]").title = channel.override?.reason ?? "";
    const kill = card.querySelector('[data-act="kill"]'), release = card.querySelector('[data-act="release"]');
    if (kill) [kill.hidden, release.hidden] = [stopped, !stopped];
    for (const row of card.querySelectorAll("[data-path]")) {
      for (const cell of row.querySelectorAll("[data-number]")) {
        const value = channel.paths[row.dataset.path][cell.dataset.number];
        set(cell, value);
        cell.classList.toggle("zero", value === 0);
      }
    }
    for (const one of card.querySelectorAll("[data-lane]")) {
      const lane = channel.lanes[one.dataset.lane];
      one.querySelector("[data-depth]").textContent = lane.depth;
      one.querySelector("[data-age]").textContent = lane.depth ? span(lane.age_seconds) : "";
      one.classList.toggle("busy", lane.depth > 0);
    }
    const dead = card.querySelector("[data-dead]");
    dead.querySelector("[data-depth]").textContent = channel.dead;
    dead.classList.toggle("dead", channel.dead > 0);
  }

  function gates(list, rocketchat) {
    for (const one of list) {
      if (one.gate === rocketchat) {
        const banner = document.getElementById("rocketchat");
        banner.classList.toggle("down", one.open);
        banner.classList.toggle("up", !one.open);
      } else {
        const banner = document.querySelector(`[data-gate="${CSS.escape(one.gate)}"]`);
        if (!banner) continue;
        banner.hidden = !one.open;
        if (one.open) {
          banner.querySelector("[data-words]").textContent = one.words;
          banner.querySelector("[data-since]").textContent = Figueira.near(one.opened_at);
        }
      }
    }
  }

  function drifts(words) {
    for (const banner of document.querySelectorAll("[data-drift]")) {
      const told = words[banner.dataset.drift];
      banner.hidden = told === undefined;
      banner.querySelector("[data-words]").textContent = told ?? "";
    }
  }

  function connected(yes) {
    live.classList.toggle("on", yes);
    live.classList.toggle("off", !yes);
    live.lastElementChild.textContent = yes ? "ao vivo" : "sem conexão, tentando de novo…";
  }

  function listen() {
    source = new EventSource("/v1/stream");
    source.addEventListener("overview", (event) => {
      connected(true);
      JSON.parse(event.data).channels.forEach(show);
    });
    source.addEventListener("error", () => { // closed for good, as when too many are open: ask meanwhile
      if (source?.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(listen, STREAM_RETRY);
      }
    });
  }

  async function ask() {
    try {
      const told = await (await Figueira.page("/console/agora")).json();
      connected(true);
      told.channels.forEach(show);
      gates(told.gates, told.rocketchat_gate);
      drifts(told.drifts);
    } catch {
      connected(false);
    }
    setTimeout(ask, source?.readyState === EventSource.OPEN ? WITH_STREAM : WITHOUT_STREAM);
  }

  if (main.dataset.stream) listen();
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  ask();
})();

// The import, live: the part of the page that moves is asked for again and again.
"use strict";

(() => {
  const place = document.getElementById("importacao"), live = document.getElementById("vivo");
  const EVERY = 2000; // milliseconds
  let drawn = null;

  function connected(yes) {
    live.classList.toggle("on", yes);
    live.classList.toggle("off", !yes);
    live.lastElementChild.textContent = yes ? "ao vivo" : "sem conexão, tentando de novo…";
  }

  async function ask() {
    try {
      const part = await (await Figueira.page("/console/imports/agora")).text();
      connected(true);
      if (part !== drawn) {
        place.innerHTML = part; // escaped by the server
        Figueira.times(place);
        drawn = part;
      }
    } catch {
      connected(false);
    }
    setTimeout(ask, EVERY);
  }

  ask();
})();

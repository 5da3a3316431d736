(function () {
  "use strict";
  const find = (id) => document.getElementById(id);
  const first = JSON.parse(find("page-data").textContent);
  const marked = first.marked;
  const windowAsked = new URLSearchParams(location.search).get("window");
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(document.querySelector("style").textContent);
  let tag = null, state = null, seen = Date.now(), failed = 0, timer = 0;

  // --- small pieces -------------------------------------------------------------------------------------------
  function make(name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function number(value, digits) {
    // Not toLocaleString: to load its tables takes longer than all else before the first paint.
    if (value === null || value === undefined) return "–";
    const [whole, part] = Math.abs(value).toFixed(digits === undefined ? 1 : digits).split(".");
    const rest = (part || "").replace(/0+$/, ""), shown = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest && "." + rest);
    return (value < 0 && shown !== "0" ? "−" : "") + shown;
  }
  function duration(seconds) {
    if (seconds < 90) return Math.round(seconds) + " s";
    if (seconds < 5400) return Math.round(seconds / 60) + " min";
    if (seconds < 172800) return (seconds / 3600).toFixed(1) + " h";
    return (seconds / 86400).toFixed(1) + " days";
  }
  function facts(id, pairs) {
    const list = find(id);
    list.replaceChildren(...pairs.filter((pair) => pair[1] !== null && pair[1] !== undefined && pair[1] !== "").map((pair) => {
      const box = make("div");
      const value = make("dd", "", String(pair[1]));
      if (pair[2]) value.id = pair[2];
      box.append(make("dt", "", pair[0]), value);
      return box;
    }));
  }
  function table(caption, head, rows) {
    const box = make("div", "scroll");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", caption);
    const made = make("table"), top = make("thead"), body = make("tbody"), line = make("tr");
    for (const name of head) { const cell = make("th", "", name); cell.scope = "col"; line.append(cell); }
    top.append(line);
    for (const row of rows) {
      const shown = make("tr");
      row.forEach((value, place) => {
        const cell = make(place ? "td" : "th", typeof value === "number" ? "n" : "", typeof value === "number" ? number(value, 3) : value);
        if (!place) cell.scope = "row";
        shown.append(cell);
      });
      body.append(shown);
    }
    made.append(make("caption", "", caption), top, body);
    box.append(made);
    return box;
  }
  // A part that a click opens; what is in it is made when it is open.
  function folded(id, summary, fill) {
    const more = make("details");
    more.open = !!document.querySelector("#" + id + " details[open]");
    more.append(make("summary", "", summary));
    if (more.open) more.append(fill());
    else more.addEventListener("toggle", () => more.append(fill()), { once: true });
    return more;
  }
  function address(name, more) {
    const query = new URLSearchParams(more || {});
    if (state && state.kind === "stream" && state.shown) query.set("window", state.shown);
    else if (windowAsked) query.set("window", windowAsked);
    return name + "?" + query;
  }
  async function ask(where, headers) {
    const ends = new AbortController(), limit = setTimeout(() => ends.abort(), 60000);
    try {
      return await fetch(where, {
        headers: headers || {}, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", redirect: "error",
        signal: ends.signal,
      });
    } finally { clearTimeout(limit); }
  }

  // --- where the run stands -----------------------------------------------------------------------------------
  const publicOnly = () => document.body.classList.contains("public-only");
  // Whether what is released is public by now: of a window that is not published, and without a promise, nothing is.
  const open = () => run().private && (state.kind !== "stream" || state.published);
  const run = () => (state.kind === "stream" ? state.run : state);
  const begun = () => run() && run().kind === "run";
  function trouble(told) {
    const text = told && publicOnly() ? "The run cannot be read just now." : told;  // it may name the directory
    find("trouble").hidden = !text;
    if (find("trouble").textContent !== (text || "")) find("trouble").textContent = text || "";
  }
  function standing() {
    const own = run();
    const where = (own && own.dir) || (state.holder && state.holder.dir);
    if (!begun() && own && own.kind === "trouble") return "The run cannot be read just now.";
    if (!begun()) return "No run is " + (where && !publicOnly() ? "in " + where : "here") + " yet. This page shows it when it begins.";
    if (publicOnly() && !open()) return "Nothing here is public.";
    if (own.complete) return "The run is complete.";
    const here = own.public.populations, many = own.public.iterations;
    const so = here ? "Population " + (here - 1) + " of " + many + " is released." : "Nothing is released yet.";
    if (publicOnly()) return so;
    if (!own.holder.running) return so + " " + own.holder.state.charAt(0).toUpperCase() + own.holder.state.slice(1) + ".";
    return so + " At work: " + own.holder.stage + ".";
  }
  function left() {
    const own = run();
    if (!begun() || own.complete || own.holder.left === null) return null;
    const rest = own.holder.left - (Date.now() - seen) / 1000;
    return rest > 0 ? "about " + duration(rest) : "longer than the iterations before";
  }
  function tick() {
    const place = find("left");
    if (place && left() !== null) place.textContent = left();
  }
  let drawnRounds = "";
  function showPublic(own) {
    const told = own.public;
    find("public-note").textContent = !own.private
      ? "No promise is made: nothing here may be shared."
      : open() ? (own.complete ? "" : "So far: the run is not complete.") : "The window is not published yet: until it is, all of this is for the holder.";
    facts("public", [
      ["Epsilon of what is released", told.epsilon_released + " of " + told.epsilon],
      ["Delta", told.delta],
      ["Protected", told.unit === "client" ? "all records of one client" : "one record"],
      ["Neighbours", told.adjacency],
      ["Populations", number(told.populations) + " of " + number(told.iterations + 1)],
      ["Labels", told.labels > 1 ? number(told.labels) : null],
    ]);
    const key = JSON.stringify([told, own.complete]);
    if (key === drawnRounds) return; // who reads the table keeps their place in it
    drawnRounds = key;
    const bars = make("div", "rounds"), most = Math.max(parseFloat(told.epsilon) || 0, 1e-9);
    bars.setAttribute("role", "img");
    bars.setAttribute("aria-label", "Epsilon by iteration: " + told.epsilon_released + " of " + told.epsilon + " is released, " + Math.max(told.populations - 1, 0) + " of " + told.iterations + " iterations");
    told.rows.forEach((row, t) => {
      const bar = make("i", t < told.populations ? "done" : t === told.populations && !own.complete ? "now" : "");
      const share = row.epsilon === null ? 0 : Math.min(parseFloat(row.epsilon) / most, 1);
      bar.style.height = (Number.isFinite(share) ? 6 + 94 * share : 60) + "%";
      bars.append(bar);
    });
    find("rounds").replaceChildren(bars, folded("rounds", "Iteration by iteration", () => rounds(told)));
  }
  function rounds(told) {
    const rows = told.rows.slice(0, Math.max(told.populations, 1)).map((row, t) => [
      String(t), row.candidates, row.epsilon === null ? "–" : row.epsilon, row.sigma === null ? "–" : row.sigma,
      row.highest === null ? "–" : row.highest, row.passed === null ? "–" : number(100 * row.passed) + "%",
      row.fallback.length ? row.fallback.slice(0, 6).join(", ") + (row.fallback.length > 6 ? ", …" : "") : t ? "none" : "–",
    ]);
    const head = ["iteration", "candidates", "epsilon so far", "σ in votes", "most noisy votes", "above threshold", "stand-ins"];
    return table("Iterations that are released, the newest first", head, rows.reverse());
  }
  function showHolder(own) {
    const told = own.holder, pairs = [
      ["Directory", told.dir], ["State", told.state], ["Stage", told.stage], ["Job", told.job], ["Runner", told.runner],
      ["Time left", left(), "left"],
      ["Time so far, of what is done", told.seconds ? duration(told.seconds) : null],
      ["Epsilon spent, by the ledger", told.epsilon_spent],
      ["Generator calls", number(told.calls) + " of " + number(told.calls_planned)],
    ];
    for (const [name, used] of Object.entries(told.services)) {
      for (const [what, value] of Object.entries(used)) pairs.push([name + " " + what.replace("_", " "), typeof value === "number" ? number(value) : value]);
    }
    pairs.push(["Left out", told.left_out.join("; ")], ["Notes", told.notes.join("; ")], ["Report", told.report]);
    facts("holder", pairs);
    const times = () => table("Seconds by part, the newest first", ["part", "seconds"], told.times.slice().reverse().map((each) => [each.what, each.seconds]));
    find("times").replaceChildren(...(told.times.length ? [folded("times", "Times of parts", times)] : []));
  }
  function showStream() {
    const nav = find("windows");
    nav.hidden = state.kind !== "stream";
    if (nav.hidden) return;
    const list = make("ol");
    for (const each of state.windows.filter((window) => window.published || !publicOnly()).reverse()) {
      const item = make("li"), link = make("a", "", each.name + (each.published ? "" : " (not published)"));
      link.href = "?window=" + encodeURIComponent(each.name);
      if (each.name === state.shown) link.setAttribute("aria-current", "page");
      item.append(link);
      list.append(item);
    }
    const head = make("p", "muted small", "A stream, a window every " + state.public.every + ". " + state.public.statement);
    nav.replaceChildren(head, list);
  }
  function show() {
    document.title = (marked ? "NOT PRIVATE: " : "") + ((state.public && state.public.name) || "Waiting for a run");
    document.querySelector("h1").textContent = (state.public && state.public.name) || "Waiting for a run";
    const own = run();
    trouble(state.trouble || (own && own.trouble) || "");
    const said = standing();
    if (find("standing").textContent !== said) find("standing").textContent = said;
    for (const id of ["progress", "now", "gallery", "lineage"]) find(id).hidden = !begun();
    find("bar").hidden = document.querySelector(".toc").hidden = !begun();
    showStream();
    if (!begun()) return;
    const share = own.complete ? 1 : publicOnly() ? own.public.populations / (own.public.iterations + 1) : own.holder.share;
    const fill = find("bar").firstChild || find("bar").appendChild(make("i"));
    fill.style.width = 100 * share + "%";
    find("bar").setAttribute("aria-label", Math.floor(100 * share) + " percent done");
    document.body.classList.toggle("closed", !open());
    document.querySelectorAll(".who.public, .who.was-public").forEach((mark) => {
      mark.className = open() ? "who public" : "who holder was-public";
      mark.textContent = open() ? "public" : own.private ? "for the holder" : "not private";
    });
    showPublic(own);
    showHolder(own);
    if (state.kind === "stream") {
      const told = Object.entries(state.holder).filter((pair) => pair[1] !== null);
      const box = find("holder");
      for (const [name, value] of told) {
        const item = make("div");
        item.append(make("dt", "", "Stream: " + name.replaceAll("_", " ")), make("dd", "", String(value)));
        box.append(item);
      }
    }
    populations(own);
  }

  // --- the gallery ---------------------------------------------------------------------------------------------
  const view = { label: "", start: 0, drawn: "" };
  function root(id) {
    const host = find(id);
    if (!host.shadowRoot) host.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
    return host.shadowRoot;
  }
  function populations(own) {
    const choice = find("population"), here = own.public.populations;
    if (choice.dataset.epoch !== own.epoch) { choice.replaceChildren(); choice.dataset.epoch = own.epoch; view.label = ""; view.start = 0; root("family").innerHTML = ""; chosen = ""; }
    while (choice.options.length < here) {
      const t = choice.options.length;
      choice.append(new Option(t === 0 ? "0, the first" : t === own.public.iterations ? t + ", the samples" : String(t), String(t)));
    }
    if (find("newest").checked && here) choice.value = String(here - 1);
    draw();
    fromHash();
  }
  async function draw(turned) {
    const own = run(), choice = find("population");
    if (!begun() || choice.value === "") { root("shown").innerHTML = ""; view.drawn = ""; return; }
    const wanted = address("gallery", { population: choice.value, label: view.label, start: view.start, order: find("order").value });
    // What is drawn changes when the population after it comes: its votes and its children are known then.
    const key = own.epoch + wanted + Math.min(own.public.populations, Number(choice.value) + 2);
    if (view.drawn === key) return;
    view.drawn = key;
    find("gallery-note").textContent = Number(choice.value) + 1 < own.public.populations
      ? "A line under a candidate says that it was varied or kept for the next population."
      : "The newest population: no vote on it is released, so its order is as made.";
    try {
      const answer = await ask(wanted);
      const text = await answer.text();
      if (view.drawn !== key) return;
      if (!answer.ok) throw new Error(answer.status === 409 || answer.status === 500 ? JSON.parse(text).trouble : "status " + answer.status);
      root("shown").innerHTML = text;
      if (turned) {
        const again = [...root("shown").querySelectorAll(".turn button")].find((button) => button.textContent === turned && !button.disabled);
        (again || root("shown").querySelector("button:not(:disabled)") || find("population")).focus();
      }
      if (!performance.getEntriesByName("gallery-drawn").length) performance.mark("gallery-drawn"); // for the benchmark
    } catch (error) {
      view.drawn = "";
      find("gallery-note").textContent = "The gallery cannot be drawn just now: " + error.message;
    }
  }
  find("shown").addEventListener("click", (event) => {
    const button = event.composedPath().find((each) => each.dataset && (each.dataset.label !== undefined || each.dataset.start !== undefined));
    if (!button) return;
    if (button.dataset.label !== undefined) { view.label = button.dataset.label; view.start = 0; }
    else view.start = Number(button.dataset.start);
    draw(button.textContent);
  });
  find("population").addEventListener("change", () => { find("newest").checked = false; view.start = 0; draw(); });
  find("order").addEventListener("change", () => { view.start = 0; draw(); });
  find("newest").addEventListener("change", () => { if (begun()) { view.start = 0; populations(run()); } });

  // --- the family of a candidate --------------------------------------------------------------------------------
  let chosen = "";
  async function fromHash(moved) {
    const found = /^#c(\d+)-(\d+)$/.exec(location.hash);
    if (!found || !begun()) return;
    const own = run(), key = own.epoch + location.hash + Math.min(own.public.populations, Number(found[1]) + 3);
    if (chosen === key) return;
    chosen = key;
    try {
      const answer = await ask(address("family", { population: found[1], candidate: found[2] }));
      const text = await answer.text();
      if (chosen !== key) return;
      if (!answer.ok) throw new Error(answer.status === 409 || answer.status === 500 ? JSON.parse(text).trouble : "status " + answer.status);
      const stage = root("family");
      stage.innerHTML = text;
      const path = stage.querySelector(".path"), here = path.querySelector("[aria-current]").parentElement;
      path.scrollLeft = here.offsetLeft - path.clientWidth / 2;
      if (moved) {
        find("family").scrollIntoView({ block: "nearest" });
        stage.querySelector("h3").focus({ preventScroll: true });
      }
    } catch (error) {
      chosen = "";
      root("family").replaceChildren(make("p", "note", "This candidate cannot be shown just now: " + error.message));
    }
  }
  addEventListener("hashchange", () => fromHash(true));
  find("family").addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !event.key.startsWith("Arrow")) return;
    const tree = root("family").querySelector("#tree"), to = tree && tree.dataset[event.key.slice(5).toLowerCase()];
    event.preventDefault();
    if (to) location.hash = to;
  });

  // --- again and again -------------------------------------------------------------------------------------------
  find("public-only").addEventListener("change", () => {
    document.body.classList.toggle("public-only", find("public-only").checked);
    if (state) show();
  });
  function take(found) {
    state = found;
    seen = Date.now();
    const unprotected = [found, found.run].some((each) => each && each.private === false);
    if (unprotected !== marked && (found.kind === "run" || (found.run && found.run.kind === "run"))) { location.reload(); return; }
    show();
  }
  async function poll() {
    try {
      const answer = await ask("state" + (windowAsked ? "?window=" + encodeURIComponent(windowAsked) : ""), tag ? { "If-None-Match": tag } : {});
      failed = 0;
      if (answer.status === 404 || answer.status === 403) trouble("This address is no longer served: pe-beam watch was started again, and printed a new one.");
      else if (answer.status === 200) { tag = answer.headers.get("ETag"); take(await answer.json()); }
      else if (answer.status === 304 && state) trouble(state.trouble || (run() && run().trouble) || "");
    } catch (error) {
      failed += 1;
      if (failed > 1) trouble("pe-beam watch does not answer. The run is not touched by that; start the command again.");
    }
    const pause = 1000 * (state ? state.every : 1);
    clearTimeout(timer);
    timer = setTimeout(poll, document.hidden ? Math.max(pause, 10000) : failed ? Math.min(1000 * failed, 5000) : pause);
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !timer) return;
    clearTimeout(timer);
    timer = setTimeout(poll);
  });
  setInterval(tick, 1000);
  // The frame is painted before it is filled. A tab in the background gets no frame, and is filled all the same.
  const begin = () => { if (!state) { take(first); timer = setTimeout(poll, 1000 * first.every); } };
  requestAnimationFrame(() => setTimeout(begin));
  setTimeout(begin, 300);
})();

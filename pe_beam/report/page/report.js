(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const stage = document.getElementById("tree");
  const store = new Map();
  for (const piece of document.getElementById("fragments").content.children) store.set(piece.dataset.n, piece);
  const nodes = data.nodes;
  const children = new Map();
  for (const [key, node] of Object.entries(nodes)) {
    if (!node[1]) continue;
    if (!children.has(node[1])) children.set(node[1], []);
    children.get(node[1]).push(key);
  }
  for (const list of children.values()) list.sort((a, b) => (nodes[b][2] ?? 0) - (nodes[a][2] ?? 0) || id(a) - id(b));

  function id(key) { return Number(key.split("-")[1]); }
  function at(key) { return Number(key.split("-")[0]); }
  function number(value) {
    return value === null ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: 1 }).replace("-", "−");
  }
  function make(name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function shown(key) {
    return [...store.get(key).childNodes].map((child) => child.cloneNode(true));
  }
  function link(key, here) {
    const anchor = make("a");
    anchor.href = "#c" + key;
    if (here) anchor.setAttribute("aria-current", "true");
    anchor.append(...shown(key));
    return anchor;
  }
  function ancestors(key) {
    const chain = [];
    for (let walk = key; walk; walk = nodes[walk][1]) chain.unshift(walk);
    return chain;
  }
  function path(key) {
    const list = make("ol", "path");
    list.tabIndex = 0;
    list.setAttribute("aria-label", "Line of descent: its ancestors, itself, and the most voted of its descendants");
    const line = ancestors(key);
    for (let next = (children.get(key) || [])[0]; next; next = (children.get(next) || [])[0]) line.push(next);
    for (const step of line) {
      const item = make("li", at(step) > at(key) ? "later" : "");
      item.append(String(at(step)), link(step, step === key), nodes[step][2] === null ? "out" : number(nodes[step][2]));
      list.append(item);
    }
    return list;
  }
  function gauge(votes, sigma, height) {
    const reach = Math.max(Math.abs(votes), 3 * sigma, height || 0, 1) * 1.08;
    const low = Math.min(-1.6 * sigma, votes * 1.08, 0);
    const place = (value) => ((value - low) / (reach - low)) * 100;
    const box = make("div", "gauge");
    box.setAttribute("aria-hidden", "true");
    const part = (name, from, to) => {
      const piece = make("i", name);
      piece.style.left = place(Math.min(from, to)) + "%";
      piece.style.width = Math.abs(place(to) - place(from)) + "%";
      box.append(piece);
    };
    part("band", -sigma, sigma);
    part("bar", 0, votes);
    part("zero", 0, 0);
    if (height !== null && height !== undefined) part("line-at", height, height);
    return box;
  }
  function kin(title, keys, current, total) {
    const box = make("div");
    const more = total > keys.length ? ", " + keys.length + " of " + total + " kept here" : "";
    box.append(make("h4", "", title + " (" + total + more + ")"));
    const list = make("ul", "kin");
    for (const key of keys) {
      const item = make("li", key === current ? "here" : "");
      item.append(link(key, key === current), make("small", "", nodes[key][2] === null ? "" : number(nodes[key][2])));
      list.append(item);
    }
    box.append(list);
    return box;
  }
  function facts(key) {
    const [code, parent, votes, born, kept] = nodes[key];
    const t = at(key);
    const box = make("div");
    const title = make("h3", "", "Candidate " + id(key));
    title.tabIndex = -1;
    box.append(title);
    const origin = t === 0 ? (kept ? "taken from an earlier release" : "made at random") : kept ? "kept from population " + (t - 1) : "varied from " + id(parent);
    box.append(make("p", "muted", (data.labels[code] ? "Label " + data.labels[code] + " · " : "") + "population " + t + " · " + origin));
    if (votes === null) {
      box.append(make("p", "", "One of the newest population: nobody has voted on it."));
    } else {
      const sigma = data.sigma[t], height = data.thresholds[t][code];
      let said = number(votes) + " noisy votes in iteration " + (t + 1);
      said += sigma ? "; the noise alone is ±" + number(sigma) : "; there is no noise in them";
      if (height !== null) said += ", the threshold " + number(height);
      said += born ? ". It was chosen: " + born + (born === 1 ? " candidate" : " candidates") + " of the next population came of it."
        : ". It was not chosen.";
      if (born && height !== null && votes <= height && data.pooled) said += " Its neighbours' votes were pooled with its own.";
      box.append(make("p", "", said), gauge(votes, sigma, height));
    }
    if (parent) {
      const brood = children.get(parent);
      box.append(kin("Siblings, itself included", brood, key, nodes[parent][3]));
    }
    if (born) box.append(kin("Children", children.get(key) || [], "", born));
    return box;
  }
  let current = null;
  function show(key, move) {
    current = key;
    stage.hidden = false;
    const focus = make("div", "focus");
    const big = make("div", "big");
    big.append(...shown(key));
    const words = facts(key);
    focus.append(big, words);
    const line = path(key);
    stage.replaceChildren(line, focus);
    const here = line.querySelector("[aria-current]").parentElement;
    line.scrollLeft = here.offsetLeft - line.clientWidth / 2;
    if (move) {
      stage.scrollIntoView({ block: "nearest" });
      words.querySelector("h3").focus({ preventScroll: true });
    }
  }
  function fromHash() {
    const found = /^#c(\d+-\d+)$/.exec(location.hash);
    if (found && nodes[found[1]]) show(found[1], true);
  }
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest("a[data-n]");
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (location.hash === "#c" + anchor.dataset.n) fromHash();
    else location.hash = "c" + anchor.dataset.n;
  });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const parent = nodes[current][1];
    const brood = parent ? children.get(parent) : [current];
    const place = brood.indexOf(current);
    const wanted = {
      ArrowLeft: parent,
      ArrowRight: (children.get(current) || [])[0],
      ArrowUp: brood[place - 1],
      ArrowDown: brood[place + 1],
    }[event.key];
    if (!(event.key in { ArrowLeft: 1, ArrowRight: 1, ArrowUp: 1, ArrowDown: 1 })) return;
    event.preventDefault();
    if (wanted) location.hash = "c" + wanted;
  });
  addEventListener("hashchange", fromHash);
  show(data.first, false);
  fromHash();
})();

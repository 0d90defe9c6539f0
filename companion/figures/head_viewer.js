// The head viewer: an overview of all heads, and one head as lines from queries to keys.
// Layers, heads and tokens count from 1 in the model's traits, as people say it.

const ROW = 26; // pixels a token takes; the style sheet has the same number
const FAINTEST = 0.01; // weights below this draw no line

// No weight to full weight; each theme goes from its paper to its strongest contrast.
const LIGHT = ["#f7fbff", "#d3e3f3", "#93c4de", "#4a97c9", "#1764ab", "#08306b"];
const DARK = ["#14181e", "#17344f", "#1a5a8c", "#3d8fc6", "#8ec6ec", "#f2f9ff"];

function render({ model, el }) {
  const [numLayers, numHeads, numQueries, numKeys] = model.get("shape");
  const queries = model.get("tokens");
  const keys = model.get("key_tokens");
  const notes = model.get("notes");
  const weight = readWeights(model);

  const root = make(el, "div", {
    class: "head-viewer", role: "group", "aria-label": "Attention head viewer",
  });
  const body = make(root, "div", { class: "hv-body" });
  const overview = make(body, "div", { class: "hv-overview" });
  const detail = make(body, "div", { class: "hv-detail" });

  // What is looked at: the chosen query or key, unless the pointer is over another one.
  let chosen = null; // { side: "queries" | "keys", index } from 0
  let hovered = null;

  // --- overview -----------------------------------------------------------------------
  make(overview, "p", { class: "hv-name" }, "All heads: row = layer, column = head");
  const grid = make(overview, "div", { class: "hv-heads", role: "grid", "aria-label": "Heads" });
  grid.style.gridTemplateColumns = `1.4em repeat(${numHeads}, minmax(0, 1fr))`;
  const header = make(grid, "div", { class: "hv-row", role: "row" });
  make(header, "span", { role: "columnheader", "aria-label": "layer" });
  for (let h = 1; h <= numHeads; h++) make(header, "span", { role: "columnheader" }, h);
  const thumbnails = []; // [layer - 1][head - 1]
  for (let l = 1; l <= numLayers; l++) {
    const row = make(grid, "div", { class: "hv-row", role: "row" });
    make(row, "span", { role: "rowheader" }, l);
    thumbnails.push([]);
    for (let h = 1; h <= numHeads; h++) {
      const note = notes[`${l}.${h}`];
      const label = `layer ${l}, head ${h}${note ? `: ${note}` : ""}`;
      const button = make(row, "button", {
        type: "button",
        role: "gridcell",
        class: note ? "hv-noted" : "",
        title: label,
        "aria-label": label,
      });
      make(button, "canvas", { width: numKeys, height: numQueries, "aria-hidden": "true" });
      button.addEventListener("click", () => choose({ layer: l, head: h }));
      thumbnails[l - 1].push(button);
    }
  }
  grid.addEventListener("keydown", (event) => {
    const step = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
      Home: [0, -numHeads], End: [0, numHeads], PageUp: [-numLayers, 0], PageDown: [numLayers, 0],
    }[event.key];
    if (!step) return;
    take(event);
    moveHead(...step);
    thumbnails[model.get("layer") - 1][model.get("head") - 1].focus();
  });
  const scale = make(overview, "div", { class: "hv-scale", "aria-hidden": "true" });
  make(scale, "span", {}, "weight 0");
  const ramp = make(scale, "canvas", { width: 90, height: 1 });
  make(scale, "span", {}, "1");
  const bigMap = make(overview, "div", { class: "hv-big-map", "aria-hidden": "true" });
  make(bigMap, "p", { class: "hv-name" }, "The chosen head: row = query, column = key");
  const map = make(bigMap, "div", { class: "hv-map" });
  const mapCanvas = make(map, "canvas", { width: numKeys, height: numQueries });
  const frame = make(map, "div", { class: "hv-frame" });
  const rowUnder = (event) => {
    const box = mapCanvas.getBoundingClientRect();
    const row = Math.floor((numQueries * (event.clientY - box.top)) / box.height);
    return { side: "queries", index: Math.min(Math.max(row, 0), numQueries - 1) };
  };
  mapCanvas.addEventListener("pointermove", (event) => hover(rowUnder(event)));
  mapCanvas.addEventListener("pointerleave", () => hover(null));
  mapCanvas.addEventListener("click", (event) => toggleToken(rowUnder(event)));
  const dots = Object.keys(notes).length ? " A dot marks a head with a note." : "";
  make(
    overview, "p", { class: "hv-help" },
    `Click a map, then a token; or press Tab and the arrow keys. Esc shows all lines.${dots}`,
  );

  // --- detail -------------------------------------------------------------------------
  const title = make(detail, "p", { class: "hv-title" });
  const note = make(detail, "p", { class: "hv-note" });
  const columns = make(detail, "div", { class: "hv-columns" });
  make(columns, "div", { class: "hv-name" }, "query (attends)").style.textAlign = "right";
  make(columns, "div");
  make(columns, "div", { class: "hv-name" }, "key (attended to)");
  const lists = { queries: makeList("queries", queries, "Queries: the tokens that attend") };
  const svg = make(columns, "svg", {
    viewBox: `0 0 100 ${ROW * Math.max(numQueries, numKeys)}`,
    height: ROW * Math.max(numQueries, numKeys),
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  lists.keys = makeList("keys", keys, "Keys: the tokens that are attended to");
  const status = make(detail, "p", { class: "hv-status", "aria-live": "polite" });

  function makeList(side, tokens, label) {
    const list = make(columns, "div", {
      class: `hv-tokens hv-${side}`, role: "listbox", "aria-label": label,
    });
    return tokens.map((text, index) => {
      const token = make(list, "div", { class: "hv-token", role: "option", "aria-label": text });
      make(token, "span", { class: "hv-text" }, text);
      make(token, "span", { class: "hv-weight" });
      token.addEventListener("click", () => toggleToken({ side, index }));
      token.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") hover({ side, index });
      });
      token.addEventListener("pointerleave", () => hover(null));
      token.addEventListener("focus", () => {
        if (token.matches(":focus-visible")) hover({ side, index });
      });
      token.addEventListener("blur", () => hover(null));
      token.addEventListener("keydown", (event) => {
        const place = {
          ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: tokens.length - 1,
          Enter: index, " ": index,
        }[event.key];
        const turn = {
          ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-1, 0], PageDown: [1, 0],
        }[event.key];
        if (place === undefined && !turn && event.key !== "Escape") return;
        take(event);
        if (event.key === "Escape") chooseToken(null);
        else if (turn) moveHead(...turn);
        else {
          const next = Math.min(Math.max(place, 0), tokens.length - 1);
          chooseToken({ side, index: next });
          lists[side][next].focus();
        }
      });
      return token;
    });
  }

  // --- what a person does -------------------------------------------------------------
  function choose(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  }
  function moveHead(down, right) {
    const within = (value, high) => Math.min(Math.max(value, 1), high);
    choose({
      layer: within(model.get("layer") + down, numLayers),
      head: within(model.get("head") + right, numHeads),
    });
  }
  function toggleToken(place) {
    chooseToken(same(chosen, place) ? null : place);
  }
  function chooseToken(place) {
    hovered = null; // what was chosen should be seen, though the pointer has not moved
    chosen = place; // a key is chosen only here; a query is a trait too
    choose({ token: place?.side === "queries" ? place.index + 1 : 0 });
    draw();
  }
  function hover(place) {
    hovered = place;
    draw();
  }

  // --- drawing ------------------------------------------------------------------------
  let shades;

  function draw() {
    const layer = model.get("layer"), head = model.get("head");
    const at = (q, k) => weight(layer, head, q, k);
    const active = hovered ?? chosen;
    thumbnails.flat().forEach((button, i) => {
      const current = i === (layer - 1) * numHeads + head - 1;
      button.setAttribute("aria-selected", current);
      button.tabIndex = current ? 0 : -1;
    });
    title.textContent = `Layer ${layer}, head ${head}`;
    note.textContent = notes[`${layer}.${head}`] ?? "";
    paintCanvas(mapCanvas, (k, q) => at(q, k));
    frameActive(active);

    const others = active && (active.side === "queries" ? "keys" : "queries");
    const between = (index) =>
      active.side === "queries" ? at(active.index, index) : at(index, active.index);
    for (const [side, list] of Object.entries(lists)) {
      list.forEach((token, index) => {
        const isActive = same(active, { side, index });
        const opposite = side === others;
        token.classList.toggle("hv-active", isActive);
        token.setAttribute("aria-selected", same(chosen, { side, index }));
        token.tabIndex = index === (chosen?.side === side ? chosen.index : 0) ? 0 : -1;
        token.querySelector(".hv-weight").textContent = opposite ? between(index).toFixed(2) : "";
        token.style.background = opposite ? `rgba(var(--shade), ${0.75 * between(index)})` : "";
      });
    }
    const lines = [];
    for (let q = 0; q < numQueries; q++) {
      for (let k = 0; k < numKeys; k++) {
        const w = at(q, k);
        const shown = !active || active.index === (active.side === "queries" ? q : k);
        if (shown && w >= FAINTEST) lines.push(line(q, k, w));
      }
    }
    svg.replaceChildren(...lines);
    status.textContent = sentence(layer, head, active, between);
  }

  function frameActive(active) {
    frame.hidden = !active;
    if (!active) return;
    const isRow = active.side === "queries";
    const start = (100 * active.index) / (isRow ? numQueries : numKeys);
    const size = 100 / (isRow ? numQueries : numKeys);
    Object.assign(frame.style, {
      top: isRow ? `${start}%` : 0, height: isRow ? `${size}%` : "100%",
      left: isRow ? 0 : `${start}%`, width: isRow ? "100%" : `${size}%`,
    });
  }

  function line(q, k, w) {
    const from = (q + 0.5) * ROW, to = (k + 0.5) * ROW;
    return make(null, "path", {
      d: `M0 ${from} C40 ${from} 60 ${to} 100 ${to}`,
      "stroke-opacity": Math.min(1, 0.08 + w),
      "stroke-width": 0.75 + 5 * w,
    });
  }

  function sentence(layer, head, active, between) {
    if (!active) return `Layer ${layer}, head ${head}: point at a token to see its weights.`;
    const isQuery = active.side === "queries";
    const best = (isQuery ? keys : queries)
      .map((text, index) => ({ text, w: between(index) }))
      .sort((a, b) => b.w - a.w)
      .slice(0, 3)
      .map(({ text, w }) => `${text} ${w.toFixed(2)}`)
      .join(", ");
    const text = (isQuery ? queries : keys)[active.index];
    return `Layer ${layer}, head ${head}: ${text} ${isQuery ? "→" : "←"} ${best}`;
  }

  function paint() {
    const dark = isDark();
    root.toggleAttribute("data-dark", dark);
    shades = makeShades(dark ? DARK : LIGHT);
    draw();
    paintCanvas(ramp, (x) => x / 89);
    thumbnails.forEach((row, l) =>
      row.forEach((button, h) =>
        paintCanvas(button.firstChild, (k, q) => weight(l + 1, h + 1, q, k)),
      ),
    );
  }
  function paintCanvas(canvas, value) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let y = 0, i = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++, i += 4) {
        image.data.set(shades[Math.round(255 * value(x, y))], i);
      }
    }
    context.putImageData(image, 0, 0);
  }

  // --- following the model and the page's theme ---------------------------------------
  function followToken() {
    const token = model.get("token");
    if (token) chosen = { side: "queries", index: token - 1 };
    else if (chosen?.side === "queries") chosen = null;
  }
  const onChange = () => {
    followToken();
    draw();
  };
  const events = ["change:layer", "change:head", "change:token"];
  events.forEach((event) => model.on(event, onChange));
  const themes = new MutationObserver(paint);
  for (const element of [document.documentElement, document.body]) {
    themes.observe(element, {
      attributes: true,
      attributeFilter: ["class", "data-theme", "data-jp-theme-light"],
    });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", paint);

  followToken();
  paint();
  return () => {
    events.forEach((event) => model.off(event, onChange));
    themes.disconnect();
    system.removeEventListener("change", paint);
  };
}

function readWeights(model) {
  const [, numHeads, numQueries, numKeys] = model.get("shape");
  const bytes = Uint8Array.from(atob(model.get("weights")), (c) => c.charCodeAt(0));
  const levels = new DataView(bytes.buffer);
  return (layer, head, q, k) => {
    const map = (layer - 1) * numHeads + head - 1;
    return levels.getUint16(2 * ((map * numQueries + q) * numKeys + k), true) / 65535;
  };
}

// Dark by the page's own word where it has one (Sphinx, JupyterLab, VS Code), else the system's.
function isDark() {
  const theme = document.documentElement.dataset.theme;
  if (theme) return theme === "dark";
  const jupyter = document.body.dataset.jpThemeLight;
  if (jupyter) return jupyter === "false";
  if (/vscode-(dark|light)/.test(document.body.className)) {
    return document.body.classList.contains("vscode-dark");
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

// 256 colors [r, g, b, 255] that pass evenly through the given ones.
function makeShades(stops) {
  const colors = stops.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, level) => {
    const position = (level / 255) * (stops.length - 1);
    const below = Math.min(Math.floor(position), stops.length - 2);
    const mixed = colors[below].map((c, i) => c + (position - below) * (colors[below + 1][i] - c));
    return [...mixed, 255];
  });
}

// Keep a key from the page and from the notebook, which have uses of their own for it.
function take(event) {
  event.preventDefault();
  event.stopPropagation();
}

function same(a, b) {
  return a !== null && a.side === b.side && a.index === b.index;
}

function make(parent, tag, attributes = {}, text = "") {
  const isSvg = tag === "svg" || tag === "path";
  const element = isSvg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== "") element.textContent = text;
  parent?.append(element);
  return element;
}

export default { render };

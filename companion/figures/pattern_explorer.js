// The pattern explorer: sliders for the pattern, its mask, and what one query reaches.
// The same rules as mask() and reach() in pattern_explorer.py.

const SLIDERS = [
  ["window", "window (each side)"],
  ["num_global", "global tokens"],
  ["num_random", "random keys a query"],
  ["layers", "layers"],
];
const CELL = 6; // pixels of the canvas for each position

function render({ model, el }) {
  const n = model.get("length");
  const randomKeys = model.get("random_keys");
  const root = make(el, "div", {
    class: "pattern-explorer", role: "group", "aria-label": "Attention pattern explorer",
  });
  const controls = make(root, "div", { class: "pe-controls" });
  const inputs = SLIDERS.map(([name, label]) => {
    const row = make(controls, "label", { class: "pe-slider" });
    make(row, "span", {}, label);
    const input = make(row, "input", {
      type: "range", min: model.get("lowest")[name], max: model.get("highest")[name],
      "aria-label": label,
    });
    const value = make(row, "output");
    input.addEventListener("input", () => change(name, Number(input.value)));
    return { name, input, value };
  });
  make(root, "p", { class: "pe-name" }, "Row = query, column = key. Point at a row, or click it to keep it.");
  const canvas = make(root, "canvas", {
    class: "pe-map", width: n * CELL, height: n * CELL, tabindex: 0, role: "img",
  });
  make(root, "p", { class: "pe-name" }, "Inputs that the query's output depends on, after all layers");
  const strip = make(root, "canvas", {
    class: "pe-strip", width: n * CELL, height: 3 * CELL, "aria-hidden": "true",
  });
  const status = make(root, "p", { class: "pe-status", "aria-live": "polite" });
  let hovered = null;

  const rowUnder = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor((n * (event.clientY - box.top)) / box.height);
    return Math.min(Math.max(row, 0), n - 1);
  };
  canvas.addEventListener("pointermove", (event) => hover(rowUnder(event)));
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("click", (event) => change("query", rowUnder(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1, PageUp: -8, PageDown: 8 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    change("query", Math.min(Math.max(model.get("query") + step, 0), n - 1));
  });

  function change(name, value) {
    hovered = null;
    model.set(name, value);
    model.save_changes();
    draw();
  }
  function hover(row) {
    if (row === hovered) return;
    hovered = row;
    draw();
  }

  function draw() {
    const [window, globals, chance, layers] = SLIDERS.map(([name]) => model.get(name));
    const query = hovered ?? model.get("query");
    for (const { name, input, value } of inputs) {
      input.value = model.get(name);
      value.textContent = model.get(name);
    }
    const sees = (q, k) =>
      Math.abs(q - k) <= window || q < globals || k < globals ||
      randomKeys[q].slice(0, chance).includes(k);
    const rows = Array.from({ length: n }, (_, q) =>
      Array.from({ length: n }, (_, k) => sees(q, k)),
    );
    let reached = rows.map((_, k) => k === query);
    for (let layer = 0; layer < layers; layer++) {
      reached = rows.map((_, k) => rows.some((row, q) => reached[q] && row[k]));
    }
    const style = getComputedStyle(root);
    const color = (name) => style.getPropertyValue(name).trim();
    const paint = canvas.getContext("2d");
    rows.forEach((row, q) =>
      row.forEach((seen, k) => {
        const name = seen ? (q === query ? "--chosen" : "--seen") : "--hidden";
        paint.fillStyle = color(name);
        paint.fillRect(k * CELL, q * CELL, CELL, CELL);
      }),
    );
    paint.strokeStyle = color("--chosen");
    paint.lineWidth = 2;
    paint.strokeRect(1, query * CELL - 1, n * CELL - 2, CELL + 2);
    const below = strip.getContext("2d");
    reached.forEach((is, k) => {
      below.fillStyle = color(is ? (rows[query][k] ? "--chosen" : "--seen") : "--hidden");
      below.fillRect(k * CELL, 0, CELL, 3 * CELL);
    });
    const count = (list) => list.filter(Boolean).length;
    const pairs = rows.reduce((sum, row) => sum + count(row), 0);
    status.textContent =
      `${Math.round((100 * pairs) / (n * n))} % of all pairs are scored. ` +
      `Query ${query} sees ${count(rows[query])} of ${n} keys; ` +
      `through ${layers} ${layers === 1 ? "layer" : "layers"} it depends on ${count(reached)} inputs.`;
    canvas.setAttribute("aria-label", status.textContent);
  }

  function paint() {
    root.toggleAttribute("data-dark", isDark());
    draw();
  }
  const events = [...SLIDERS.map(([name]) => name), "query"].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, draw));
  const stopFollowing = followTheme(paint);
  paint();
  return () => {
    events.forEach((event) => model.off(event, draw));
    stopFollowing();
  };
}

export default { render };

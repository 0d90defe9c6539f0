// The query plane: scores, weights and output of one query in two dimensions.
// The same arithmetic as attend() in query_plane.py.

const SIDE = 300; // of a plane's view box
const GRAB = 26; // how near a press must be to take hold of a tip
const STEP = 0.1; // of the arrow keys; also what a dragged tip is rounded to

function render({ model, el }) {
  const values = model.get("values");
  const limit = model.get("limit");
  const [root, body] = makeCard(
    el, "query-plane", "Query plane",
    "Left: the query q (blue) and the keys (orange). Right: the values (green, larger with more " +
    "weight), the smallest convex shape that holds them, and the output (purple), their weighted average.",
  );
  const controls = make(body, "div", { class: "cc-controls" });
  const showScale = addSlider(
    controls, "factor on the scores", { min: 0, max: model.get("largest_scale"), step: 0.05 },
    (scale) => changeTraits(model, { scale }),
  );
  const first = Object.fromEntries(["query", "key_points", "scale"].map((name) => [name, model.get(name)]));
  make(controls, "button", { type: "button" }, "start again")
    .addEventListener("click", () => changeTraits(model, first));

  const panels = make(body, "div", { class: "cc-panels" });
  const [map, right] = [
    ["qp-map", "Drag a tip, or Tab to it and press arrow keys"],
    ["qp-values", "Values and output"],
  ].map(([kind, title]) => {
    const panel = make(panels, "div");
    make(panel, "p", { class: "cc-title" }, title);
    return makeSvg(panel, "svg", { class: kind, viewBox: `0 0 ${SIDE} ${SIDE}` });
  });
  setAll(map, { role: "group", "aria-label": "query and keys" });
  right.setAttribute("role", "img");

  const toMap = ([x, y]) => [SIDE / 2 + (x / limit) * 0.47 * SIDE, SIDE / 2 - (y / limit) * 0.47 * SIDE];
  const fromMap = (left, top) =>
    [left - SIDE / 2, SIDE / 2 - top].map((part) => tidy(part / (0.47 * SIDE) * limit));
  const tidy = (x) => Math.min(Math.max(Math.round(x / STEP) * STEP, -limit), limit);
  for (const ends of [[[-limit, 0], [limit, 0]], [[0, -limit], [0, limit]]]) {
    const [[x1, y1], [x2, y2]] = ends.map(toMap);
    makeSvg(map, "line", { class: "qp-axis", x1, y1, x2, y2 });
  }

  // Tips: the keys, then the query on top of them.
  const names = [...values.map((_, j) => `k${j + 1}`), "q"];
  const pointOf = (tip) => (tip < values.length ? model.get("key_points")[tip] : model.get("query"));
  const move = (tip, point) =>
    changeTraits(model, tip < values.length
      ? { key_points: model.get("key_points").map((key, j) => (j === tip ? point : key)) }
      : { query: point });
  const tips = names.map((name, tip) => {
    const kind = name === "q" ? "qp-query" : "qp-key";
    const group = makeSvg(map, "g", { class: kind, tabindex: 0, role: "application" });
    const parts = {
      group,
      shaft: makeSvg(group, "line"),
      knob: makeSvg(group, "circle", { r: name === "q" ? 9 : 7 }),
      text: makeSvg(group, "text", { class: "qp-name", "text-anchor": "middle" }, name),
    };
    group.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      move(tip, pointOf(tip).map((x, i) => tidy(x + step[i] * STEP * (event.shiftKey ? 5 : 1))));
    });
    return parts;
  });

  // The nearest tip within reach is dragged; elsewhere the query comes to the pointer.
  let held = null;
  const under = (event) => {
    const box = map.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map((part) => (part * SIDE) / box.width);
  };
  map.addEventListener("pointerdown", (event) => {
    const [left, top] = under(event);
    const far = names.map((_, tip) => {
      const [x, y] = toMap(pointOf(tip));
      return Math.hypot(x - left, y - top);
    });
    const nearest = far.lastIndexOf(Math.min(...far));
    held = far[nearest] < GRAB ? nearest : values.length;
    map.setPointerCapture(event.pointerId);
    if (far[nearest] >= GRAB) move(held, fromMap(left, top));
    tips[held].group.focus({ preventScroll: true });
    event.preventDefault();
  });
  map.addEventListener("pointermove", (event) => held !== null && move(held, fromMap(...under(event))));
  ["pointerup", "pointercancel"].forEach((name) => map.addEventListener(name, () => (held = null)));

  // The right plane holds all values with a margin; both axes have one unit.
  const [low, high] = [0, 1].map((i) => values.map((value) => value[i]))
    .reduce(([a, b], all) => [[...a, Math.min(...all)], [...b, Math.max(...all)]], [[], []]);
  const wide = 1.45 * Math.max(high[0] - low[0], high[1] - low[1], 1e-9);
  const toRight = ([x, y]) =>
    [x - (low[0] + high[0]) / 2, (low[1] + high[1]) / 2 - y].map((part) => SIDE * (0.5 + part / wide));

  const table = make(body, "table", { class: "qp-table" });
  const heads = make(make(table, "thead"), "tr");
  ["key", "q · k", "× factor", "weight"].forEach((name) => make(heads, "th", { scope: "col" }, name));
  make(heads, "td", { class: "qp-share" });
  const rows = make(table, "tbody");
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  function draw() {
    const query = model.get("query");
    const scale = model.get("scale");
    showScale(scale, scale.toFixed(2));
    const scores = model.get("key_points").map((key) => key[0] * query[0] + key[1] * query[1]);
    const top = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(scale * (score - top)));
    const total = powers.reduce((a, b) => a + b, 0);
    const weights = powers.map((power) => power / total);
    const output = [0, 1].map((i) => values.reduce((sum, value, j) => sum + weights[j] * value[i], 0));

    tips.forEach(({ group, shaft, knob, text }, tip) => {
      const point = pointOf(tip);
      const [[x1, y1], [x2, y2]] = [toMap([0, 0]), toMap(point)];
      setAll(shaft, { x1, y1, x2, y2 });
      setAll(knob, { cx: x2, cy: y2 });
      const length = Math.hypot(...point) || 1;
      setAll(text, { x: x2 + (point[0] / length) * 19, y: y2 - (point[1] / length) * 19 + 4 });
      const what = tip < values.length ? `key ${tip + 1}` : "query";
      group.setAttribute("aria-label", `${what} at ${show(point, 1)}; the arrow keys move it`);
    });

    right.replaceChildren();
    const at = (point) => toRight(point).map((x) => x.toFixed(1)).join(",");
    makeSvg(right, "polygon", { class: "qp-hull", points: hull(values).map(at).join(" ") });
    const [x2, y2] = toRight(output);
    values.forEach((value, j) => {
      const [x1, y1] = toRight(value);
      makeSvg(right, "line", { class: "qp-pull", x1, y1, x2, y2, "stroke-width": 6 * weights[j] });
    });
    values.forEach((value, j) => {
      const [cx, cy] = toRight(value);
      makeSvg(right, "circle", { class: "qp-value", cx, cy, r: 3 + 12 * Math.sqrt(weights[j]) });
      const below = cy > SIDE / 2;
      makeSvg(right, "text", { class: "qp-name", x: Math.min(Math.max(cx, 50), SIDE - 50), y: cy + (below ? 30 : -20), "text-anchor": "middle" },
        `v${j + 1} ${show(value, 0)}`);
    });
    makeSvg(right, "circle", { class: "qp-output", cx: x2, cy: y2, r: 8 });

    rows.replaceChildren();
    scores.forEach((score, j) => {
      const row = make(rows, "tr");
      make(row, "th", { scope: "row" }, `k${j + 1} ${show(model.get("key_points")[j], 1)}`);
      [score, scale * score, weights[j]].forEach((x) => make(row, "td", {}, numberText(x, 2)));
      make(make(row, "td", { class: "qp-share" }), "span", { style: `width: ${100 * weights[j]}%` });
    });
    status.textContent =
      `The query ${show(query, 1)} gives the keys the weights ` +
      `${weights.map((weight) => weight.toFixed(2)).join(", ")}. The output is ${show(output, 2)}.`;
    right.setAttribute("aria-label", status.textContent);
  }

  return keepDrawn(model, root, ["query", "key_points", "scale"], draw);
}

const show = (point, digits) => `(${point.map((x) => numberText(x, digits)).join(", ")})`;

// The corners of the convex hull, by Andrew's monotone chain.
function hull(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const chain = (list) => {
    const kept = [];
    for (const p of list) {
      while (kept.length > 1) {
        const [a, b] = kept.slice(-2);
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        kept.pop();
      }
      kept.push(p);
    }
    return kept.slice(0, -1);
  };
  return [...chain(sorted), ...chain(sorted.reverse())];
}

export default { render };

// The quantization explorer: weights, the levels they may have, and where they end.
// The same arithmetic as in quantization_explorer.py.

const WAYS = ["matrix", "row", "blocks"];
const BLOCK = 32;
const SEEN = 64; // weights in the picture
const [WIDTH, HEIGHT, TOP] = [640, 230, 10];

function render({ model, el }) {
  const rows = model.get("rows");
  const length = rows[0].length;
  const [root, body] = makeCard(el, "quantization-explorer", "Quantization explorer", model.get("caption"));
  const showRow = radios(body, "row", model.get("names"), (row) =>
    change({ row, place: largestOf(rows[row]) }),
  );
  const showWay = radios(
    body, "a scale for", ["the whole matrix", "each row", `each ${BLOCK} weights`],
    (i) => change({ way: WAYS[i] }),
  );
  const controls = make(body, "div", { class: "cc-controls" });
  const showBits = addSlider(controls, "bits", { min: 2, max: 8, step: 1 }, (bits) => change({ bits }));
  const showPlace = addSlider(
    controls, "weight", { min: 0, max: length - 1, step: 1 }, (place) => change({ place }),
  );
  const svg = makeSvg(body, "svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: 0, class: "qe-picture",
  });
  const legend = make(body, "p", { class: "qe-legend" });
  for (const [name, text] of [
    ["qe-true", "a weight"], ["qe-back", "as it comes back"], ["qe-level", "levels"],
  ]) make(legend, "span", { class: name }, text);
  const numbers = make(body, "dl", { class: "qe-numbers" });
  const [error, used, cost, size] = ["row off by", "levels in use", "bits a weight", "7 B weights"].map((name) => {
    const box = make(numbers, "div");
    make(box, "dt", {}, name);
    return make(box, "dd");
  });
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });
  let hovered = null;

  const first = () => Math.floor(model.get("place") / SEEN) * SEEN;
  const seen = () => Math.min(SEEN, length - first());
  const under = (event) => {
    const box = svg.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * SEEN);
    return first() + Math.min(Math.max(at, 0), seen() - 1);
  };
  svg.addEventListener("pointermove", (event) => {
    hovered = under(event);
    draw();
  });
  svg.addEventListener("pointerleave", () => {
    hovered = null;
    draw();
  });
  svg.addEventListener("click", (event) => change({ place: under(event) }));
  svg.addEventListener("keydown", (event) => {
    const step = {
      ArrowLeft: -1, ArrowRight: 1, PageUp: -SEEN, PageDown: SEEN, Home: -length, End: length,
    }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    change({ place: Math.min(Math.max(model.get("place") + step, 0), length - 1) });
  });
  function change(values) {
    hovered = null;
    changeTraits(model, values);
    draw();
  }

  function draw() {
    const weights = rows[model.get("row")];
    const [bits, way, kept] = [model.get("bits"), model.get("way"), model.get("place")];
    const place = hovered ?? kept;
    showRow(model.get("row"));
    showWay(WAYS.indexOf(way));
    showBits(bits);
    showPlace(kept);
    const { levels, back, steps, origins } = quantized(weights, way, bits, model.get("peak"));
    const deviation = Math.sqrt(mean(weights.map((w) => w * w)) - mean(weights) ** 2);
    // An outlier may not squeeze all others: the picture ends at four usual deviations.
    const most = Math.min(Math.max(...weights.map(Math.abs)), 4 * usual(weights));
    picture(weights, back, steps, origins, place, most, bits, way);
    const off = Math.sqrt(mean(weights.map((w, i) => (w - back[i]) ** 2)) / mean(weights.map((w) => w * w)));
    error.textContent = `${(100 * off).toPrecision(3)} %`;
    used.textContent = way === "blocks"
      ? `${mean(blocksOf(levels).map((b) => new Set(b).size)).toFixed(1)} of ${2 ** bits}`
      : `${new Set(levels).size} of ${2 ** bits - 1}`;
    const shared = { matrix: length * model.get("num_rows"), row: length, blocks: BLOCK }[way];
    const each = bits + 32 / shared;
    cost.textContent = each.toFixed(2);
    size.textContent = `${((7 * each) / 8).toFixed(1)} GB`;
    const from = way === "blocks" ? ` above ${origins[place].toPrecision(3)}` : "";
    status.textContent =
      `Weight ${place} is ${weights[place].toPrecision(3)}, ` +
      `${Math.abs(weights[place] / deviation).toFixed(1)} deviations of its row. It becomes level ` +
      `${levels[place]}${from}, with steps of ${steps[place].toPrecision(3)}: ${back[place].toPrecision(3)}.`;
    svg.setAttribute("aria-label", status.textContent);
  }

  function picture(weights, back, steps, origins, place, most, bits, way) {
    svg.replaceChildren();
    const start = first();
    const x = (i) => ((i - start + 0.5) / SEEN) * WIDTH;
    const inside = (value) => Math.min(Math.max(value, -most * 1.04), most * 1.04);
    const y = (value) => TOP + ((most * 1.08 - inside(value)) / (2 * most * 1.08)) * (HEIGHT - 2 * TOP);
    const half = WIDTH / SEEN / 2;
    makeSvg(svg, "rect", { class: "qe-here", x: x(place) - half, y: 0, width: 2 * half, height: HEIGHT });
    for (let b = start; b < start + seen(); b += BLOCK) {
      const [step, origin] = [steps[b], origins[b]];
      if (!(step > 0) || y(0) - y(step) < 3) continue; // too many to be told apart
      const lowest = way === "blocks" ? 0 : -(2 ** (bits - 1) - 1);
      const highest = way === "blocks" ? 2 ** bits - 1 : -lowest;
      for (let q = Math.max(lowest, Math.ceil((-most - origin) / step)); q <= Math.min(highest, (most - origin) / step); q++) {
        const height = y(q * step + origin);
        makeSvg(svg, "line", { class: "qe-grid", x1: x(b) - half, x2: x(b + BLOCK - 1) + half, y1: height, y2: height });
      }
    }
    for (let i = start; i < start + seen(); i++) {
      makeSvg(svg, "line", { class: "qe-off", x1: x(i), x2: x(i), y1: y(weights[i]), y2: y(back[i]) });
      if (Math.abs(weights[i]) > most) {
        const up = weights[i] > 0 ? 1 : -1;
        const tip = y(weights[i]) - up * 4;
        makeSvg(svg, "path", { class: "qe-far", d: `M ${x(i) - 6} ${tip + up * 10} L ${x(i)} ${tip} L ${x(i) + 6} ${tip + up * 10} Z` });
      } else {
        makeSvg(svg, "circle", { class: "qe-true", cx: x(i), cy: y(weights[i]), r: 3.6 });
        makeSvg(svg, "circle", { class: "qe-back", cx: x(i), cy: y(back[i]), r: 2.7 });
      }
    }
  }

  return keepDrawn(model, root, ["row", "bits", "way", "place"], draw);
}

function quantized(weights, way, bits, peak) {
  if (way === "blocks") {
    const found = { levels: [], back: [], steps: [], origins: [] };
    for (const block of blocksOf(weights)) {
      const lowest = Math.min(...block);
      const step = (Math.max(...block) - lowest) / (2 ** bits - 1);
      for (const w of block) {
        const level = step > 0 ? Math.floor((w - lowest) / step + 0.5) : 0;
        found.levels.push(level);
        found.back.push(level * half(step) + half(lowest));
        found.steps.push(step);
        found.origins.push(lowest);
      }
    }
    return found;
  }
  const largest = way === "matrix" ? peak : Math.max(...weights.map(Math.abs));
  const step = largest / (2 ** (bits - 1) - 1);
  const levels = weights.map((w) => toEven(w / step));
  return {
    levels, back: levels.map((q) => q * step),
    steps: weights.map(() => step), origins: weights.map(() => 0),
  };
}
function largestOf(weights) {
  const sizes = weights.map(Math.abs);
  return sizes.indexOf(Math.max(...sizes));
}
const blocksOf = (list) =>
  Array.from({ length: list.length / BLOCK }, (_, b) => list.slice(b * BLOCK, (b + 1) * BLOCK));
const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length;
// The deviation that the row would have without its largest few: from the middle half.
function usual(weights) {
  const sizes = weights.map(Math.abs).sort((a, b) => a - b);
  return sizes[Math.floor(sizes.length / 2)] / 0.6745;
}
// The nearest integer; of two that are equally near, the even one, as NumPy has it.
function toEven(x) {
  const near = Math.round(x);
  return (Math.abs(x % 1) === 0.5 && near % 2 ? near - 1 : near) + 0; // and no -0
}
// The nearest number of 16 bits.
function half(x) {
  if (x === 0) return 0;
  const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), -14) - 10);
  return toEven(x / unit) * unit;
}

export default { render };

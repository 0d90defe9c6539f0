// The stack explorer: tokens layer by layer, in stacks that lack this part or that.

const NORMS = ["none", "post", "pre"];

function render({ model, el }) {
  const stacks = model.get("stacks");
  const farthest = stacks.map(({ places }) => Math.max(...places.flat().map(Math.abs)));
  const half = (1.05 * Math.max(...farthest)) / 1000;
  const layers = stacks[0].shares.length - 1;
  const [root, body] = makeCard(
    el, "stack-explorer", "Stack explorer",
    "Left: the tokens in two fixed directions, brought to one size. Right: the part of the tokens that tells " +
    "them apart, and their size (root mean square), by depth, on logarithmic axes; gray are the other eleven stacks. All weights are fresh.",
  );
  const controls = make(body, "div", { class: "cc-controls" });
  const showResidual = addBox(controls, "residual connections", (residual) => changeTraits(model, { residual }));
  const showForward = addBox(controls, "feed-forward networks", (feed_forward) => changeTraits(model, { feed_forward }));
  const showNorm = addChoice(
    controls, "norm", ["none", "after each part (post-norm)", "before each part (pre-norm)"],
    (choice) => changeTraits(model, { norm: NORMS[choice] }),
  );
  const showDepth = addSlider(controls, "layers", { min: 0, max: layers }, (depth) => changeTraits(model, { depth }));

  const panels = make(body, "div", { class: "cc-panels" });
  const box = make(panels, "div");
  const mapTitle = make(box, "p", { class: "cc-title" });
  const map = makeSvg(box, "svg", { class: "se-map", viewBox: `${-half} ${-half} ${2 * half} ${2 * half}`, role: "img" });
  for (const [x, y] of [[half, 0], [0, half]]) {
    makeSvg(map, "line", { class: "se-axis", x1: -x, x2: x, y1: -y, y2: y, "stroke-width": 0.03 });
  }
  const tokens = stacks[0].places[0].filter((_, i) => i % 2 === 0)
    .map(() => makeSvg(map, "circle", { class: "se-token", r: 0.2, style: "stroke-width: 0.04px" }));
  const charts = make(panels, "div", { class: "se-charts" });
  const depths = { label: "layers", range: [0, layers], ticks: [0, 6, 12, 18, 24].filter((d) => d <= layers).map((d) => [d, d]) };
  const shareChart = makeChart(charts, "What tells the tokens apart", depths);
  const sizeChart = makeChart(charts, "Size of the numbers", depths);
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  const range = (name) => {
    const all = stacks.flatMap((stack) => stack[name]);
    return [Math.floor(Math.min(...all)), Math.ceil(Math.max(...all))];
  };
  const axisOf = (name, step) => {
    const [low, high] = range(name);
    const first = Math.ceil(low / step) * step;
    const powers = Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, i) => first + i * step);
    return { range: [low, high], ticks: powers.map((n) => [n, n === 0 ? "1" : `10${superscript(n)}`]) };
  };
  const [shareAxis, sizeAxis] = [axisOf("shares", 4), axisOf("sizes", 2)];

  function draw() {
    const [residual, norm, feedForward, depth] =
      ["residual", "norm", "feed_forward", "depth"].map((name) => model.get(name));
    showResidual(residual);
    showForward(feedForward);
    showNorm(NORMS.indexOf(norm));
    showDepth(depth);
    const shown = stacks.find((s) => s.residual === residual && s.norm === norm && s.feed_forward === feedForward);
    tokens.forEach((token, i) =>
      setAll(token, { cx: shown.places[depth][2 * i] / 1000, cy: -shown.places[depth][2 * i + 1] / 1000 }));
    const share = plain(10 ** shown.shares[depth]), size = plain(10 ** shown.sizes[depth]);
    const after = depth === 0 ? "Before the first layer" : `After ${depth} ${depth === 1 ? "layer" : "layers"}`;
    mapTitle.textContent = `${tokens.length} tokens ${after.toLowerCase()}`;
    const says = `${after}, the part of the tokens that tells them apart is ${share}; their numbers are of size ${size}.`;
    status.textContent = says;
    map.setAttribute("aria-label", says);
    [[shareChart, "shares", shareAxis], [sizeChart, "sizes", sizeAxis]].forEach(([chart, name, y]) => {
      const line = (stack) => stack[name].map((value, i) => [i, value]);
      const others = stacks.filter((stack) => stack !== shown).map((stack) => ({ points: line(stack), kind: "se-other" }));
      chart({ lines: [...others, { points: line(shown), kind: "se-shown" }], mark: depth, y, says });
    });
  }

  return keepDrawn(model, root, ["residual", "norm", "feed_forward", "depth"], draw);
}

const superscript = (n) => [...String(n)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");

// Two digits, as 0.27, 3.4, 41,000 or 2.3 · 10⁻⁸.
function plain(x) {
  if (x >= 1e-3 && x < 1e6) return Number(x.toPrecision(2)).toLocaleString("en", { maximumFractionDigits: 4 });
  const [digits, power] = x.toExponential(1).split("e");
  return `${digits} · 10${superscript(Number(power))}`;
}

export default { render };

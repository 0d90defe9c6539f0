// The rotary explorer: a query and a key in pairs, turned or moved by their positions.
// The same arithmetic as placed() and scores() in rotary_explorer.py.

const ENCODINGS = ["rotary", "added"];

function render({ model, el }) {
  const [query, key, lowest, highest] = ["query", "key", "lowest", "highest"].map((name) => model.get(name));
  const pairs = query.length / 2;
  const [root, body] = makeCard(
    el, "rotary-explorer", "Rotary explorer",
    "Each dial is one pair of numbers: the query's hand and the key's, as their positions leave them. " +
    "The score is the sum of the dials' products. Left: the score against the distance, the key where it is. " +
    "Right: the score at this distance, as both move through the text. Dashed: where the sliders stand.",
  );
  const controls = make(body, "div", { class: "cc-controls" });
  const showEncoding = addChoice(
    controls, "positions", ["turn both (rotary)", "are added to both (sinusoidal)"],
    (choice) => changeTraits(model, { encoding: ENCODINGS[choice] }),
  );
  const exponents = { min: Math.log10(lowest.base), max: Math.log10(highest.base), step: 0.25 };
  const showBase = addSlider(controls, "base", exponents, (power) => changeTraits(model, { base: 10 ** power }));
  const [showDistance, showPlace] = [["distance", "distance"], ["place", "move both along"]].map(([name, label]) =>
    addSlider(controls, label, { min: lowest[name], max: highest[name] }, (value) => changeTraits(model, { [name]: value })));

  const legend = make(body, "p", { class: "cc-title", style: "margin-top: 12px" });
  make(legend, "span", { class: "re-who" });
  const queryAt = make(legend, "span");
  make(legend, "span", { class: "re-who re-dotted" });
  const keyAt = make(legend, "span");
  const dials = make(body, "div", { class: "re-dials" });
  const faces = Array.from({ length: pairs }, () => {
    const box = make(dials, "div");
    return [makeSvg(box, "svg", { viewBox: "-60 -60 120 120", role: "img" }), make(box, "p")];
  });
  const panels = make(body, "div", { class: "cc-panels" });
  const spread = (name, count) => Array.from({ length: count }, (_, i) => {
    const value = lowest[name] + ((highest[name] - lowest[name]) * i) / (count - 1);
    return [value, String(value).replace("-", "−")];
  });
  const axis = (name, label) => ({ label, range: [lowest[name], highest[name]], ticks: spread(name, 5) });
  const byDistance = makeChart(panels, "Score by distance", axis("distance", "query's position less the key's"));
  const byPlace = makeChart(panels, "Score as both move along", axis("place", "key's position"));
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  function draw() {
    const [place, distance, base, encoding] = ["place", "distance", "base", "encoding"].map((name) => model.get(name));
    const turns = encoding === "rotary";
    showEncoding(ENCODINGS.indexOf(encoding));
    showBase(Math.log10(base), base < 1000 ? base.toFixed(0) : Math.round(base).toLocaleString("en"));
    showDistance(distance, numberText(distance, 0));
    showPlace(place);
    const speeds = Array.from({ length: pairs }, (_, i) => base ** -(i / pairs));
    const at = (vector, position) => speeds.map((speed, i) => {
      const [x, y, cos, sin] = [vector[2 * i], vector[2 * i + 1], Math.cos(speed * position), Math.sin(speed * position)];
      return turns ? [x * cos - y * sin, y * cos + x * sin] : [x + sin, y + cos];
    });
    const products = (m, n) => {
      const [q, k] = [at(query, m), at(key, n)];
      return q.map((pair, i) => pair[0] * k[i][0] + pair[1] * k[i][1]);
    };
    const score = (m, n) => products(m, n).reduce((a, b) => a + b, 0);

    const [m, n] = [place + distance, place];
    queryAt.textContent = `query at ${m}`;
    keyAt.textContent = `key at ${n}`;
    const [q, k, shares] = [at(query, m), at(key, n), products(m, n)];
    const longest = Math.max(...[query, key].flatMap((v) => speeds.map((_, i) => Math.hypot(v[2 * i], v[2 * i + 1])))) + (turns ? 0 : 1);
    faces.forEach(([svg, text], i) => {
      svg.replaceChildren();
      makeSvg(svg, "circle", { class: "re-face", r: 56 });
      // The key's hand is dotted, so that it can be told from the query's under it.
      [["re-query", q[i]], ["re-key", k[i]]].forEach(([kind, [x, y]]) =>
        makeSvg(svg, "line", { class: kind, x1: 0, y1: 0, x2: (54 * x) / longest, y2: (-54 * y) / longest }));
      const degrees = (speeds[i] * 180) / Math.PI;
      const speed = `${degrees < 1 ? degrees.toPrecision(2) : degrees.toFixed(1)}° a step`;
      const product = `product ${numberText(shares[i], 2)}`;
      text.replaceChildren(speed, document.createElement("br"), product);
      svg.setAttribute("aria-label", `pair ${i + 1}: ${speed}, ${product}`);
    });

    const steps = (name) => Array.from({ length: highest[name] - lowest[name] + 1 }, (_, i) => lowest[name] + i);
    const distances = steps("distance").map((d) => [d, score(place + d, place)]);
    const places = steps("place").map((p) => [p, score(p + distance, p)]);
    const [low, high] = bounds([...distances, ...places].map(([, value]) => value));
    const y = { range: [low, high], ticks: [low, 0, high].filter((v, i, all) => all.indexOf(v) === i).map((v) => [v, numberText(v, 0)]) };
    const [least, most] = [Math.min, Math.max].map((f) => f(...places.map(([, value]) => value)));
    const now = score(m, n);
    byDistance({ lines: [{ points: distances, kind: "re-score" }], mark: distance, y, says: `Score by distance, ${numberText(now, 2)} at distance ${distance}` });
    byPlace({ lines: [{ points: places, kind: "re-score" }], mark: place, y, says: `Score at distance ${distance}, from ${numberText(least, 2)} to ${numberText(most, 2)} over all places` });
    status.textContent =
      `The query at ${m} and the key at ${n} have the score ${numberText(now, 2)}. Moved along together, ` +
      (most - least < 0.005 ? "they keep it." : `their score goes from ${numberText(least, 2)} to ${numberText(most, 2)}.`);
  }

  return keepDrawn(model, root, ["place", "distance", "base", "encoding"], draw);
}

// Whole even numbers that hold all values, and 0.
function bounds(values) {
  return [2 * Math.floor(Math.min(0, ...values) / 2), 2 * Math.ceil(Math.max(0, ...values) / 2)];
}

export default { render };

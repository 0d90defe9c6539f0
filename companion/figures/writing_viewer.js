// The writing viewer: one step of a decoder at a time, with what it looks at and what it costs.

function render({ model, el }) {
  const writings = model.get("writings");
  const [root, body] = makeCard(
    el, "writing-viewer", "Writing viewer",
    "Blue: how much the step looks at each token, across at the source and back at what is written (last decoder layer, " +
    "mean over heads). Orange: what is computed in this step. Green: the token that it writes, dashed purple where it is a mistake.",
  );
  const controls = make(body, "div", { class: "cc-controls" });
  const showWriting = addChoice(controls, "text", writings.map(({ name }) => name), (writing) => changeTraits(model, { writing }));
  const showCached = addBox(controls, "keep keys and values (cache)", (cached) => changeTraits(model, { cached }));
  const sliderBox = make(controls, "div", { style: "grid-column: 1 / -1" });
  const longest = Math.max(...writings.map(({ written }) => written.length));
  const showStep = addSlider(sliderBox, "step", { min: 1, max: longest }, (step) => changeTraits(model, { step }));
  const slider = sliderBox.querySelector("input");

  const [source, target] = ["Looks across at the source", "Looks back at what is written"].map((title, i) => {
    make(body, "p", { class: "cc-title", style: i ? "" : "margin-top: 12px" }, title);
    return make(body, "ol", { class: "wv-tokens", "aria-label": title });
  });
  const panels = make(body, "div", { class: "cc-panels" });
  const [bars, triangle] = ["Likeliest next tokens", "Which query sees which key"].map((title) => {
    const panel = make(panels, "div");
    make(panel, "p", { class: "cc-title" }, title);
    return panel;
  });
  const rows = makeSvg(triangle, "svg", { class: "wv-rows", role: "img" });
  const list = make(bars, "div", { role: "list", "aria-label": "likeliest next tokens" });
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  function token(parent, text, weight, kind = "") {
    const item = make(parent, "li", { class: kind });
    item.append(text);
    if (weight === null) return;
    item.style.setProperty("--weight", weight);
    make(item, "small", {}, `${Math.round(100 * weight)} %`);
  }

  function draw() {
    const writing = writings[model.get("writing")];
    const cached = model.get("cached");
    const steps = writing.written.length;
    const step = Math.min(model.get("step"), steps);
    showWriting(model.get("writing"));
    showCached(cached);
    slider.max = steps;
    showStep(step, `${step} of ${steps}`);
    const at = step - 1;
    const word = writing.written[at];
    const right = word === writing.wanted[at];

    source.replaceChildren();
    writing.source.forEach((text, j) => token(source, text, writing.across[at][j]));
    target.replaceChildren();
    writing.back[at].forEach((weight, j) =>
      token(target, writing.read[j], weight, !cached || j === at ? "wv-computed" : ""));
    token(target, word, null, right ? "wv-new" : "wv-new wv-wrong");
    for (let j = step; j < steps; j++) token(target, "\u00a0", null, "wv-future");

    list.replaceChildren();
    for (const [text, p] of writing.candidates[at]) {
      const row = make(list, "div", { class: "wv-row", role: "listitem" });
      make(row, "span", {}, text);
      make(make(row, "span", { class: "wv-track" }), "span", { style: `width: ${100 * p}%` });
      make(row, "span", {}, p.toFixed(3));
    }

    rows.replaceChildren();
    rows.setAttribute("viewBox", `-0.5 -0.5 ${steps + 1} ${steps + 1}`);
    for (let i = 0; i < steps; i++) {
      for (let j = 0; j < steps; j++) {
        const seen = j <= i && i < step;
        const kind = !seen ? "wv-mask" : i === at || !cached ? "wv-now" : "wv-seen";
        makeSvg(rows, "rect", { class: kind, x: j, y: i, width: 1, height: 1, style: "stroke-width: 0.08px" });
      }
    }
    const [now, sum] = cached ? [1, step] : [step, (step * (step + 1)) / 2];
    rows.setAttribute("aria-label", `Row is query, column is key. ${step} of ${steps} rows are filled up to the diagonal.`);
    const share = writing.candidates[at].find(([text]) => text === word)?.[1];
    const sure = share === undefined ? "" : `, with probability ${share.toFixed(2)}`;
    const verdict = right ? "" : ` It should be “${writing.wanted[at] ?? "nothing"}”.`;
    status.textContent =
      `Step ${step} writes “${word}”${sure}.${verdict} ${cached ? "With" : "Without"} a cache, ` +
      `${now} ${now === 1 ? "token goes" : "tokens go"} through the decoder in this step, ${sum} so far.`;
  }

  return keepDrawn(model, root, ["writing", "step", "cached"], draw);
}

export default { render };

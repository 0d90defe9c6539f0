// The memory planner: what one device holds, part by part, and what it sends.
// All formulas are in memory_plan.py; here is only what grows with the batch multiplied by it.

const SAYS = {
  parameters: "32-bit weights",
  gradients: "one for each weight",
  optimizer: "two averages for each weight",
  activations: "kept for the backward pass",
  gathered: "of other devices, or copies in 16 bits",
  logits: "two gradients, as the backward pass begins",
};
const STRATEGY_NAMES = {
  single: "one device",
  ddp: "data parallel (DDP)",
  fsdp: "fully sharded (FSDP)",
};
const GROW = ["activations", "logits"]; // with the batch

function render({ model, el }) {
  const { shape: shapes, batch: batches, strategy: strategies, devices, precision: precisions } =
    model.get("choices");
  const parts = model.get("parts");
  const [root, body] = makeCard(
    el, "memory-planner", "Memory planner",
    "Bytes on each device while it trains with AdamW, by what they are for. Dashed: how much a card holds. " +
    "The thin bar is the same model and batch on one device, in 32 bits, with everything kept; an arrow says that it goes on.",
  );
  const controls = make(body, "div", { class: "cc-controls" });
  const change = (name, values) => (choice) => changeTraits(model, { [name]: values[choice] });
  const showShape = addChoice(controls, "model", shapes, change("shape", shapes));
  const showStrategy = addChoice(
    controls, "strategy", strategies.map((name) => STRATEGY_NAMES[name]), change("strategy", strategies));
  const showBatch = addSlider(controls, "batch", { min: 0, max: batches.length - 1 }, change("batch", batches));
  const showDevices = addSlider(controls, "devices", { min: 0, max: devices.length - 1 }, change("devices", devices));
  const devicesInput = controls.querySelector('input[aria-label="devices"]');
  const showPrecision = addChoice(controls, "precision", precisions, change("precision", precisions));
  const showRecompute = addBox(
    controls, "recompute blocks backward", (recompute) => changeTraits(model, { recompute }));

  const chart = make(body, "div", { class: "mp-chart", role: "img" });
  // What is returned draws the sizes of the parts on an axis that ends at `range`.
  const addBar = (kind, name) => {
    const label = make(make(chart, "p", { class: "mp-name" }), "span");
    const bar = make(chart, "div", { class: `mp-bar ${kind}` });
    const pieces = parts.map((part) => make(bar, "i", { style: `background: var(--${part})` }));
    return (sizes, range) => {
      label.textContent = `${name}: ${bytesText(sum(sizes))}${sum(sizes) > range ? " →" : ""}`;
      pieces.forEach((piece, i) => (piece.style.width = `${(100 * sizes[i]) / range}%`));
    };
  };
  const drawChosen = addBar("mp-chosen", "as chosen");
  const drawPlain = addBar("mp-plain", "one device, 32 bits, all kept");
  const cards = model.get("cards").map((size) => {
    const line = make(chart, "div", { class: "mp-card" });
    return [size, line, make(line, "span", {}, `${size} GB`)];
  });
  const axis = make(chart, "div", { class: "mp-axis", "aria-hidden": "true" });
  const table = make(make(body, "table"), "tbody");
  const cells = parts.map((part) => {
    const row = make(table, "tr");
    const head = make(row, "th", { scope: "row" });
    make(head, "i", { style: `background: var(--${part})` });
    head.append(part);
    const size = make(row, "td", { class: `mp-size-${part}` });
    make(row, "td", { class: "mp-what" }, SAYS[part]);
    return size;
  });
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  // [the parts in bytes, what a device sends].
  function planned({ precision, recompute, strategy, place }) {
    const row = model.get("plans")[model.get("shape")][precision][recompute ? "again" : "kept"][strategy][place];
    const held = parts.map((part, i) => row[i] * (GROW.includes(part) ? model.get("batch") : 1));
    return [held, row[parts.length]];
  }

  function draw() {
    const [shape, batch, strategy, precision, recompute] =
      ["shape", "batch", "strategy", "precision", "recompute"].map((name) => model.get(name));
    const alone = strategy === "single";
    const number = alone ? 1 : model.get("devices");
    showShape(shapes.indexOf(shape));
    showStrategy(strategies.indexOf(strategy));
    showBatch(batches.indexOf(batch), batch);
    showDevices(devices.indexOf(number), number.toLocaleString("en"));
    showPrecision(precisions.indexOf(precision));
    showRecompute(recompute);
    devicesInput.disabled = alone;

    const [held, sent] = planned({ precision, recompute, strategy, place: devices.indexOf(number) });
    const [usual] = planned({ precision: "fp32", recompute: false, strategy: "single", place: 0 });
    const total = sum(held);
    // The thin bar may go on beyond the axis, rather than leave nothing to see of the other.
    const range = roundUp(1.04 * Math.max(total, Math.min(sum(usual), 3 * total)));
    drawChosen(held, range);
    drawPlain(usual, range);
    cells.forEach((cell, i) => (cell.textContent = bytesText(held[i])));
    let before = 0; // the last card's place that has its name written
    for (const [size, line, name] of cards) {
      const place = (1e9 * size) / range;
      line.hidden = place > 1;
      line.style.left = `${100 * place}%`;
      line.classList.toggle("mp-left", place > 0.85);
      name.hidden = before > 0 && place - before < 0.16;
      if (!name.hidden) before = place;
    }
    axis.replaceChildren();
    [0, 0.5, 1].forEach((part) => make(axis, "span", {}, part ? bytesText(part * range) : "0"));

    const fits = model.get("cards").filter((size) => total <= 1e9 * size);
    const fit = fits.length
      ? ` and fits on a card of ${fits[0]} GB`
      : `, too much for a card of ${model.get("cards").join(" or ")} GB`;
    const who = number === 1 ? "the device" : `each of ${number.toLocaleString("en")} devices`;
    status.textContent =
      `${shape}: ${who} holds ${bytesText(total)}${fit}. ` +
      (sent ? `It sends ${bytesText(sent)} in an update.` : "Nothing has to be sent.");
    chart.setAttribute("aria-label", status.textContent);
  }

  const names = ["shape", "batch", "strategy", "devices", "precision", "recompute"];
  return keepDrawn(model, root, names, draw);
}

const sum = (sizes) => sizes.reduce((a, b) => a + b, 0);

// The next of 1, 2, 3, 5 and 10, times a power of ten.
function roundUp(bytes) {
  const power = 10 ** Math.floor(Math.log10(bytes));
  return [1, 2, 3, 5, 10].find((step) => step * power >= bytes) * power;
}

// Three digits: 12.3 GB.
function bytesText(bytes) {
  if (bytes === 0) return "0";
  const [unit, name] = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "bytes"]]
    .find(([size]) => bytes >= 0.9995 * size);
  const digits = bytes / unit;
  const rounded = digits >= 99.95 ? Math.round(digits) : Number(digits.toPrecision(3));
  return `${rounded.toLocaleString("en")} ${name}`;
}

export default { render };

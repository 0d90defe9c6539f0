// The bar explorer: the bars of one choice, on an axis that all choices share.

function render({ model, el }) {
  const columns = model.get("columns");
  const bars = model.get("bars");
  const values = model.get("values");
  const names = model.get("names");
  const line = model.get("line");
  const floor = model.get("floor");
  const [root, body] = makeCard(el, "bar-explorer", "Bar explorer", model.get("caption"));
  const picks = columns.map(([name, options], c) =>
    radios(body, name, options, (option) => {
      const picked = [...model.get("picked")];
      picked[c] = option;
      changeTraits(model, { picked });
      draw();
    }),
  );
  const note = make(body, "p", { class: "cc-status" });
  make(body, "p", { class: "cc-title" }, names.value + (floor ? ", on a logarithmic scale" : ""));
  const table = make(body, "div", { class: "be-bars", role: "list", "aria-label": names.value });
  const rows = bars.map((name) => {
    const row = make(table, "div", { role: "listitem" });
    make(row, "span", { class: "be-name" }, name);
    const track = make(row, "span", { class: "be-track" });
    const bar = make(track, "span", { class: "be-bar" });
    if (line) make(track, "span", { class: "be-line", style: `left:${share(line)}%` });
    return { bar, row, value: make(row, "span", { class: "be-value" }) };
  });
  if (line) make(body, "p", { class: "be-legend" }, `${names.line}: ${digits(line)}`);
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  // The part of the axis, in percent, that a value takes.
  function share(value) {
    const most = Math.max(line, ...values.flat());
    const part = floor ? Math.log(Math.max(value, floor) / floor) / Math.log(most / floor) : value / most;
    return (100 * part).toFixed(2);
  }

  function draw() {
    const picked = model.get("picked");
    picks.forEach((pick, c) => pick(picked[c]));
    const shown = values[columns.reduce((sum, [, options], c) => sum * options.length + picked[c], 0)];
    rows.forEach(({ row, bar, value }, i) => {
      bar.style.width = `${share(shown[i])}%`;
      value.textContent = digits(shown[i]);
      row.classList.toggle("be-above", line > 0 && shown[i] > line);
    });
    const options = columns.map(([, of], c) => of[picked[c]]);
    note.textContent = options.map((option) => model.get("notes")[option]).filter(Boolean).join(" ");
    note.hidden = Object.keys(model.get("notes")).length === 0;
    const first = shown.findIndex((value) => value > line);
    const highest = shown.indexOf(Math.max(...shown));
    status.textContent = `${options.join(", ")}. ` + (
      !line ? `Highest: ${bars[highest]}, ${digits(shown[highest])}.`
      : first < 0 ? `Nothing is above the ${names.line}.`
      : `First above the ${names.line}: ${bars[first]}, ${digits(shown[first])}.`
    );
  }

  return keepDrawn(model, root, ["picked"], draw);
}

function digits(value) {
  if (value === 0) return "0";
  return value < 0.001 || value >= 10000 ? value.toExponential(0) : Number(value.toPrecision(3)).toString();
}

export default { render };

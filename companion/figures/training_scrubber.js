// The training scrubber: what a model writes for the same sources, moment after moment.

const LONGEST = 10; // words that are shown; early in its training a model may never stop

function render({ model, el }) {
  const [updates, sources, wanted, written, losses, rates, shares] =
    ["updates", "sources", "wanted", "written", "losses", "rates", "shares"].map((name) => model.get(name));
  const [root, body] = makeCard(
    el, "training-scrubber", "Training scrubber",
    "What one model writes at several moments of its training. Bold words are in the right translation, underlined ones are not. " +
    "Below: the loss by update, and shares over more texts. Dashed: the moment.",
  );
  const showMoment = addSlider(body, "updates", { min: 0, max: updates.length - 1 }, (moment) => changeTraits(model, { moment }));
  const table = make(body, "table", { class: "ts-texts" });
  const heads = make(make(table, "thead"), "tr");
  const [, headNow] = ["source", "written now", "right"].map((name) => make(heads, "th", { scope: "col" }, name));
  const rows = make(table, "tbody");
  const cells = sources.map((source, i) => {
    const row = make(rows, "tr");
    make(row, "th", { scope: "row" }, source);
    const cell = make(row, "td");
    make(row, "td", { class: "ts-wanted" }, wanted[i]);
    return cell;
  });

  const last = Math.max(updates[updates.length - 1], losses[losses.length - 1][0]);
  const quarters = [0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(part * last)).map((n) => [n, n]);
  const axis = { label: "updates", range: [0, last], ticks: quarters };
  const panels = make(body, "div", { class: "cc-panels" });
  const lossChart = makeChart(panels, "Training loss (nats a token)", axis);
  const shareChart = makeChart(panels, "Share that is right", axis);
  const legend = make(panels.lastElementChild, "p", { class: "ts-legend" });
  shares.forEach(([name], i) => {
    const item = make(legend, "span");
    makeSvg(makeSvg(item, "svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }), "line", { class: `ts-${i}`, x1: 0, x2: 26, y1: 4, y2: 4 });
    item.append(name);
  });
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });
  const highest = Math.ceil(Math.max(...losses.map(([, loss]) => loss)));
  const lossAxis = { range: [0, highest], ticks: Array.from({ length: highest + 1 }, (_, n) => [n, n]) };
  const shareAxis = { range: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1].map((part) => [part, `${100 * part} %`]) };

  function draw() {
    const moment = model.get("moment");
    showMoment(moment, updates[moment]);
    headNow.textContent = `after ${updates[moment]} updates`;
    cells.forEach((cell, i) => {
      cell.replaceChildren();
      const left = wanted[i].split(" ");
      const words = written[moment][i].split(" ");
      words.slice(0, LONGEST).forEach((word, k) => {
        const at = left.indexOf(word);
        if (at >= 0) left.splice(at, 1);
        if (k) cell.append(" ");
        make(cell, "span", { class: at >= 0 ? "ts-right" : "ts-wrong" }, word);
      });
      if (words.length > LONGEST) cell.append(` … (${words.length} words)`);
    });
    const right = written[moment].filter((text, i) => text === wanted[i]).length;
    const percent = shares.map(([name, share]) => `${name} ${Math.round(100 * share[moment])} %`);
    status.textContent =
      `After ${updates[moment]} updates, ${right} of these ${sources.length} are right. Right over more texts: ` +
      `${percent.join(", ")}. Learning rate: ${rates[moment]}.`;
    const mark = updates[moment];
    lossChart({ lines: [{ points: losses, kind: "ts-loss" }], mark, y: lossAxis, says: `Loss by update, at ${mark} of ${last} updates` });
    shareChart({
      lines: shares.map(([, share], i) => ({ points: share.map((value, k) => [updates[k], value]), kind: `ts-${i}` })),
      mark, y: shareAxis, says: status.textContent,
    });
  }

  return keepDrawn(model, root, ["moment"], draw);
}

export default { render };

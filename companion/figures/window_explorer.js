// The window explorer: a grid of patches, its windows, and what one patch sees through them.
// The same rules as groups() and reach() in window_explorer.py.

const CELL = 20; // pixels of the canvas for each patch

function render({ model, el }) {
  const n = model.get("size");
  const M = model.get("window");
  const root = make(el, "div", {
    class: "window-explorer", role: "group", "aria-label": "Window explorer",
  });
  const controls = make(root, "div", { class: "we-controls" });
  const slider = make(controls, "label", { class: "we-slider" });
  make(slider, "span", {}, "blocks");
  const blocksInput = make(slider, "input", {
    type: "range", min: model.get("lowest").blocks, max: model.get("highest").blocks,
    "aria-label": "blocks",
  });
  const blocksValue = make(slider, "output");
  blocksInput.addEventListener("input", () => change({ blocks: Number(blocksInput.value) }));
  const boxes = [
    ["shift", "shift every second block"],
    ["mask", "mask what comes from the other edge"],
  ].map(([name, label]) => {
    const row = make(controls, "label", { class: "we-box" });
    const input = make(row, "input", { type: "checkbox" });
    make(row, "span", {}, label);
    input.addEventListener("change", () => change({ [name]: input.checked }));
    return [name, input];
  });
  make(root, "p", { class: "we-name" },
    "Point at a patch, click it to keep it, or move with the arrow keys. Lines: the windows of the last block.");
  const canvas = make(root, "canvas", {
    class: "we-map", width: n * CELL, height: n * CELL, tabindex: 0, role: "img",
  });
  const legend = make(root, "p", { class: "we-legend" });
  const status = make(root, "p", { class: "we-status", "aria-live": "polite" });
  let hovered = null;

  const patchUnder = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = (offset, length) =>
      Math.min(Math.max(Math.floor((n * offset) / length), 0), n - 1);
    return {
      row: at(event.clientY - box.top, box.height),
      column: at(event.clientX - box.left, box.width),
    };
  };
  canvas.addEventListener("pointermove", (event) => hover(patchUnder(event)));
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("click", (event) => change(patchUnder(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
    }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const inside = (place) => Math.min(Math.max(place, 0), n - 1);
    change({
      row: inside(model.get("row") + step[0]), column: inside(model.get("column") + step[1]),
    });
  });

  function change(values) {
    hovered = null;
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    draw();
  }
  function hover(patch) {
    if (hovered?.row === patch?.row && hovered?.column === patch?.column) return;
    hovered = patch;
    draw();
  }

  const shiftOf = (block) =>
    model.get("shift") && block % 2 === 0 ? Math.floor(M / 2) : 0;
  // Which window a row or column is in, in a block; those that came around are a part of their own.
  const part = (place, by) =>
    place < by && model.get("mask") ? n / M : Math.floor(((place - by + n) % n) / M);
  function reach({ row, column }, blocks) {
    const first = Array.from({ length: n }, () => Array(n).fill(-1));
    first[row][column] = 0;
    for (let step = 1; step <= blocks; step++) {
      const by = shiftOf(blocks - step + 1);
      const group = (r, c) => part(r, by) * (n + 1) + part(c, by);
      const groups = new Set();
      first.forEach((line, r) => line.forEach((is, c) => is >= 0 && groups.add(group(r, c))));
      first.forEach((line, r) =>
        line.forEach((is, c) => {
          if (is < 0 && groups.has(group(r, c))) line[c] = step;
        }),
      );
    }
    return first;
  }

  function draw() {
    const blocks = model.get("blocks");
    const patch = hovered ?? { row: model.get("row"), column: model.get("column") };
    blocksInput.value = blocks;
    blocksValue.textContent = blocks;
    for (const [name, input] of boxes) input.checked = model.get(name);
    const style = getComputedStyle(root);
    const color = (name) => style.getPropertyValue(name).trim();
    const shade = (step) => color(step < 0 ? "--hidden" : `--step-${Math.min(step, 4)}`);
    const first = reach(patch, blocks);
    const paint = canvas.getContext("2d");
    first.forEach((line, r) =>
      line.forEach((step, c) => {
        paint.fillStyle = shade(step);
        paint.fillRect(c * CELL, r * CELL, CELL, CELL);
      }),
    );
    paint.strokeStyle = color("--paper");
    paint.lineWidth = 1;
    for (let k = 1; k < n; k++) stroke(paint, k * CELL);
    paint.strokeStyle = color("--ink");
    paint.lineWidth = 2;
    for (let k = shiftOf(blocks); k <= n; k += M) stroke(paint, k * CELL);
    const seen = first.flat().filter((step) => step >= 0).length;
    const shifted = shiftOf(blocks) ? "shifted" : "not shifted";
    status.textContent =
      `Through ${blocks} ${blocks === 1 ? "block" : "blocks"}, the patch in row ${patch.row}, ` +
      `column ${patch.column} sees ${seen} of ${n * n} patches. The last block is ${shifted}.`;
    canvas.setAttribute("aria-label", status.textContent);
    legend.replaceChildren();
    const names = ["the patch", "the last block", "two", "three", "four and more blocks"];
    names.slice(0, Math.min(blocks, 4) + 1).forEach((name, step) => {
      const item = make(legend, "span");
      make(item, "i", { style: `background: ${shade(step)}` });
      item.append(name);
    });
  }
  function stroke(paint, place) {
    paint.beginPath();
    paint.moveTo(place, 0);
    paint.lineTo(place, n * CELL);
    paint.moveTo(0, place);
    paint.lineTo(n * CELL, place);
    paint.stroke();
  }

  function repaint() {
    root.toggleAttribute("data-dark", isDark());
    draw();
  }
  const events = ["blocks", "shift", "mask", "row", "column"].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, draw));
  const stopFollowing = followTheme(repaint);
  repaint();
  return () => {
    events.forEach((event) => model.off(event, draw));
    stopFollowing();
  };
}

export default { render };

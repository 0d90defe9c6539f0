// The patch viewer: an image with the chosen patch framed, and beside it where that looks.
// Images, layers, heads and tokens count from 1 in the model's traits, as people say it.

const SIDE = 336; // pixels of a canvas, about; a patch has a whole number of them

function render({ model, el }) {
  const [rows, columns] = model.get("grid");
  const prefix = model.get("prefix");
  const heads = model.get("heads");
  const captions = model.get("captions");
  const layers = model.get("layers");
  const tokens = prefix.length + rows * columns;
  const data = readData(model);
  const cell = Math.max(4, Math.round(SIDE / Math.max(rows, columns)));
  const size = { width: columns * cell, height: rows * cell };

  const root = make(el, "div", {
    class: "patch-viewer", role: "group", "aria-label": "Patch attention viewer",
  });
  const controls = make(root, "div", { class: "pv-controls" });
  const selects = [
    ["image", "picture", captions.map((name, i) => [i + 1, name])],
    ["layer", "layer", layers.map((name, i) => [i + 1, name])],
    ["head", "head", [[0, "mean of heads"], ...Array.from({ length: heads }, (_, h) => [h + 1, `head ${h + 1}`])]],
  ].map(([name, label, options]) => {
    const row = make(controls, "label", { class: "pv-select" });
    make(row, "span", {}, label);
    const select = make(row, "select", { "aria-label": label });
    for (const [value, text] of options) make(select, "option", { value }, text);
    select.addEventListener("change", () => change(name, Number(select.value)));
    return [name, select];
  });
  const buttons = prefix.map((name, i) => {
    const button = make(controls, "button", { type: "button", class: "pv-prefix" }, `from ${name}`);
    button.addEventListener("click", () => change("token", i + 1));
    return button;
  });
  const views = make(root, "div", { class: "pv-views" });
  const [picture, looks] = [
    ["pv-picture", "Who asks: click a patch, or use the arrow keys"],
    ["pv-looks", "Where it looks: the brighter, the more"],
  ].map(([kind, caption]) => {
    const figure = make(views, "div", { class: "pv-view" });
    make(figure, "p", { class: "pv-name" }, caption);
    return make(figure, "canvas", { class: kind, ...size, tabindex: kind === "pv-picture" ? 0 : -1, role: "img" });
  });
  const status = make(root, "p", { class: "pv-status", "aria-live": "polite" });
  let hovered = null;

  for (const canvas of [picture, looks]) {
    const under = (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (at, start, length, count) =>
        Math.min(Math.max(Math.floor((count * (at - start)) / length), 0), count - 1);
      const row = place(event.clientY, box.top, box.height, rows);
      const column = place(event.clientX, box.left, box.width, columns);
      return prefix.length + row * columns + column + 1;
    };
    canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && hover(under(event)));
    canvas.addEventListener("pointerleave", () => hover(null));
    canvas.addEventListener("click", (event) => change("token", under(event)));
  }
  picture.addEventListener("keydown", (event) => {
    const step = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
    }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const now = model.get("token") - prefix.length - 1;
    // From a token before the patches, any arrow leads to the first patch.
    const [row, column] = now < 0 ? [0, 0] : [Math.floor(now / columns) + step[0], (now % columns) + step[1]];
    if (row < 0 || row >= rows || column < 0 || column >= columns) return;
    change("token", prefix.length + row * columns + column + 1);
  });

  function change(name, value) {
    hovered = null;
    model.set(name, value);
    model.save_changes();
    draw();
  }
  function hover(token) {
    if (token === hovered) return;
    hovered = token;
    draw();
  }
  function nameOf(token) {
    if (token <= prefix.length) return prefix[token - 1];
    const at = token - prefix.length - 1;
    return `patch ${Math.floor(at / columns) + 1}, ${(at % columns) + 1}`;
  }
  function rowOf(token) {
    const head = model.get("head");
    const chosen = head ? [head - 1] : Array.from({ length: heads }, (_, h) => h);
    const row = new Float64Array(tokens);
    for (const h of chosen) {
      const at = (((model.get("image") - 1) * layers.length + model.get("layer") - 1) * heads + h) * tokens + token - 1;
      const scale = data.largest[at] / 65535 / 255 / chosen.length;
      for (let k = 0; k < tokens; k++) row[k] += data.weights[at * tokens + k] * scale;
    }
    return row;
  }

  function draw() {
    for (const [name, select] of selects) select.value = model.get(name);
    const token = hovered ?? model.get("token");
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", token === i + 1));
    const row = rowOf(token);
    const source = data.images[model.get("image") - 1];
    const ink = getComputedStyle(root).getPropertyValue("--chosen").trim();
    for (const canvas of [picture, looks]) {
      const paint = canvas.getContext("2d");
      paint.imageSmoothingEnabled = false;
      paint.drawImage(source, 0, 0, size.width, size.height);
    }
    const paint = looks.getContext("2d");
    const top = Math.max(...row.subarray(prefix.length), 1e-12);
    for (let at = 0; at < rows * columns; at++) {
      const [x, y] = [(at % columns) * cell, Math.floor(at / columns) * cell];
      const share = row[prefix.length + at] / top;
      paint.fillStyle = `rgba(12, 16, 22, ${(0.88 * (1 - share)).toFixed(3)})`; // what is not seen is dark
      paint.fillRect(x, y, cell, cell);
      paint.fillStyle = `rgba(255, 170, 40, ${(0.55 * share).toFixed(3)})`;
      paint.fillRect(x, y, cell, cell);
    }
    for (const canvas of [picture, looks]) {
      const paint = canvas.getContext("2d");
      paint.strokeStyle = "rgba(128, 128, 128, 0.45)";
      paint.lineWidth = 1;
      for (let i = 1; i < columns; i++) line(paint, i * cell, 0, i * cell, size.height);
      for (let i = 1; i < rows; i++) line(paint, 0, i * cell, size.width, i * cell);
      const at = token - prefix.length - 1;
      if (at < 0) continue;
      paint.strokeStyle = ink;
      paint.lineWidth = 4;
      paint.strokeRect((at % columns) * cell + 2, Math.floor(at / columns) * cell + 2, cell - 4, cell - 4);
    }
    const percent = (x) => `${(100 * x).toFixed(x < 0.0995 ? 1 : 0)} %`;
    const most = row.indexOf(Math.max(...row));
    const before = prefix.map((name, i) => `, ${name} gets ${percent(row[i])}`).join("");
    const head = model.get("head") ? `head ${model.get("head")}` : "mean of heads";
    status.textContent =
      `${nameOf(token)} in ${layers[model.get("layer") - 1]}, ${head}: looks most at ` +
      `${nameOf(most + 1)} (${percent(row[most])})${before}. Evenly spread, each would get ${percent(1 / tokens)}.`;
    picture.setAttribute("aria-label", `${captions[model.get("image") - 1]}. ${status.textContent}`);
    looks.setAttribute("aria-label", status.textContent);
  }

  function paint() {
    root.toggleAttribute("data-dark", isDark());
    draw();
  }
  const events = ["image", "layer", "head", "token"].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, draw));
  const stopFollowing = followTheme(paint);
  paint();
  return () => {
    events.forEach((event) => model.off(event, draw));
    stopFollowing();
  };
}

function readData(model) {
  const [count, channels, height, width] = model.get("shape");
  const bytes = (name) => Uint8Array.from(atob(model.get(name)), (c) => c.charCodeAt(0));
  const pixels = bytes("pixels");
  const images = Array.from({ length: count }, (_, i) => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const content = context.createImageData(width, height);
    for (let p = 0; p < width * height; p++) {
      const at = (i * width * height + p) * channels;
      for (let c = 0; c < 3; c++) content.data[4 * p + c] = pixels[at + (channels === 3 ? c : 0)];
      content.data[4 * p + 3] = 255;
    }
    context.putImageData(content, 0, 0);
    return canvas;
  });
  const view = new DataView(bytes("largest").buffer);
  const largest = Float64Array.from({ length: view.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
  return { images, weights: bytes("weights"), largest };
}

function line(paint, x0, y0, x1, y1) {
  paint.beginPath();
  paint.moveTo(x0, y0);
  paint.lineTo(x1, y1);
  paint.stroke();
}

export default { render };

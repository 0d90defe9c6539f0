// The mask viewer: hide patches of a picture and see how a masked autoencoder paints them.
// The model itself runs here, in JavaScript, from the weights that Python sends: the same
// steps as companion/models/mae.py, one image at a time.

const SIDE = 168; // pixels of the canvas for a picture's side

function render({ model, el }) {
  const { rows, columns, patch } = model.get("shape");
  const patches = rows * columns;
  const mae = readModel(model.get("weights"), model.get("sizes"));
  const root = make(el, "div", { class: "mask-viewer", role: "group", "aria-label": "Mask viewer" });
  const controls = make(root, "div", { class: "mv-controls" });
  const slider = (label, low, high, act) => {
    const row = make(controls, "label", { class: "mv-slider" });
    make(row, "span", {}, label);
    const input = make(row, "input", { type: "range", min: low, max: high, "aria-label": label });
    const value = make(row, "output");
    input.addEventListener("input", () => act(Number(input.value)));
    return { input, value };
  };
  const example = slider("image", 1, model.get("images").length, (n) => change({ example: n - 1 }));
  const ratio = slider("patches hidden", 0, patches, (n) => change({ hidden: firstOf(n) }));
  const shuffle = make(controls, "button", { type: "button" }, "Hide others");
  shuffle.addEventListener("click", () => {
    const order = (model.get("order") + 1) % model.get("orders").length;
    const count = model.get("hidden").filter(Boolean).length;
    change({ order, hidden: firstOf(count, order) });
  });
  const pictures = make(root, "div", { class: "mv-pictures" });
  const canvases = ["seen", "painted", "original"].map((name) => {
    const frame = make(pictures, "figure");
    const canvas = make(frame, "canvas", { class: `mv-${name}`, width: SIDE, height: (SIDE * rows) / columns });
    make(frame, "figcaption", {}, { seen: "what the encoder sees", painted: "what the model paints", original: "the picture" }[name]);
    return canvas;
  });
  const [seen, painted, original] = canvases;
  seen.tabIndex = 0;
  seen.setAttribute("role", "application");
  [painted, original].forEach((canvas) => canvas.setAttribute("aria-hidden", "true"));
  make(root, "p", { class: "mv-help" }, "Click a patch to hide it or show it; or move the frame with the arrow keys and press space.");
  const status = make(root, "p", { class: "mv-status", "aria-live": "polite" });
  let cursor = Math.floor(patches / 2);

  function firstOf(count, order = model.get("order")) {
    const hidden = Array(patches).fill(0);
    model.get("orders")[order].slice(0, count).forEach((n) => (hidden[n] = 1));
    return hidden;
  }
  function toggle(n) {
    cursor = n;
    change({ hidden: model.get("hidden").map((is, k) => (k === n ? 1 - is : is)) });
  }
  seen.addEventListener("click", (event) => {
    const box = seen.getBoundingClientRect();
    const at = (part, whole, count) => Math.min(Math.max(Math.floor((count * part) / whole), 0), count - 1);
    toggle(at(event.clientY - box.top, box.height, rows) * columns + at(event.clientX - box.left, box.width, columns));
  });
  seen.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
    if (down === undefined && event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (down === undefined) return toggle(cursor);
    const row = Math.min(Math.max(Math.floor(cursor / columns) + down, 0), rows - 1);
    const column = Math.min(Math.max((cursor % columns) + right, 0), columns - 1);
    cursor = row * columns + column;
    draw();
  });
  ["focus", "blur"].forEach((name) => seen.addEventListener(name, draw));

  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    draw();
  }

  function draw() {
    const hidden = model.get("hidden");
    const pixels = model.get("images")[model.get("example")].map((p) => p / 255);
    const count = hidden.filter(Boolean).length;
    example.input.value = model.get("example") + 1;
    example.value.textContent = model.get("example") + 1;
    ratio.input.value = count;
    ratio.value.textContent = `${Math.round((100 * count) / patches)} %`;
    const cut = patchify(pixels, rows, columns, patch);
    const { shift, scale } = model.get("sizes");
    const answer = mae.predict(cut.map((values) => values.map((v) => (v - shift) / scale)), hidden)
      .map((values) => values.map((v) => v * scale + shift));
    const shown = cut.map((values, n) => (hidden[n] ? answer[n] : values));
    show(original, cut, null);
    show(seen, cut, hidden);
    show(painted, shown, null);
    if (document.activeElement === seen) frame(seen, cursor);
    const error = (guess) => {
      let sum = 0;
      cut.forEach((values, n) => hidden[n] && values.forEach((value, k) => (sum += (guess[n][k] - value) ** 2)));
      return sum / (count * patch * patch);
    };
    const mean = patchify(model.get("mean").map((p) => p / 255), rows, columns, patch);
    status.textContent = count
      ? `${count} of ${patches} patches are hidden. Mean squared error there: ` +
        `${error(answer).toFixed(3)} by the model, ${error(mean).toFixed(3)} by the average picture.`
      : `Nothing is hidden. Hide some of the ${patches} patches.`;
    const place = `row ${Math.floor(cursor / columns) + 1}, column ${(cursor % columns) + 1}`;
    seen.setAttribute("aria-label", `${status.textContent} The frame is at ${place}, which is ${hidden[cursor] ? "hidden" : "visible"}.`);
  }

  function show(canvas, cut, hidden) {
    const paint = canvas.getContext("2d");
    const size = canvas.width / columns / patch;
    const grey = getComputedStyle(root).getPropertyValue("--hidden").trim();
    cut.forEach((values, n) => {
      const left = (n % columns) * patch * size, top = Math.floor(n / columns) * patch * size;
      values.forEach((value, k) => {
        const level = Math.round(255 * Math.min(Math.max(value, 0), 1));
        paint.fillStyle = hidden?.[n] ? grey : `rgb(${level},${level},${level})`;
        paint.fillRect(left + (k % patch) * size, top + Math.floor(k / patch) * size, size, size);
      });
    });
  }
  function frame(canvas, n) {
    const paint = canvas.getContext("2d");
    const size = canvas.width / columns;
    paint.strokeStyle = getComputedStyle(root).getPropertyValue("--frame").trim();
    paint.lineWidth = 3;
    paint.strokeRect((n % columns) * size + 1.5, Math.floor(n / columns) * size + 1.5, size - 3, size - 3);
  }

  function paintAll() {
    root.toggleAttribute("data-dark", isDark());
    draw();
  }
  const events = ["example", "hidden", "order"].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, draw));
  const stopFollowing = followTheme(paintAll);
  paintAll();
  return () => {
    events.forEach((event) => model.off(event, draw));
    stopFollowing();
  };
}

// ---- the model

// The weights are half-precision numbers in base64, in the order of `sizes.names`.
function readModel(text, sizes) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const halves = new Uint16Array(bytes.buffer);
  const w = {};
  let start = 0;
  for (const [name, shape] of sizes.names) {
    const length = shape.reduce((a, b) => a * b, 1);
    w[name] = Float32Array.from(halves.subarray(start, start + length), fromHalf);
    start += length;
  }
  // y = W x + b
  const linear = (name, x) => {
    const weight = w[`${name}.weight`], bias = w[`${name}.bias`];
    const outputs = weight.length / x.length, y = new Float32Array(outputs);
    for (let i = 0; i < outputs; i++) {
      let sum = bias ? bias[i] : 0;
      for (let j = 0, at = i * x.length; j < x.length; j++) sum += weight[at + j] * x[j];
      y[i] = sum;
    }
    return y;
  };
  const norm = (name, x) => {
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
    const scale = 1 / Math.sqrt(variance + sizes.eps);
    return x.map((v, i) => (v - mean) * scale * w[`${name}.weight`][i] + w[`${name}.bias`][i]);
  };
  const add = (a, b) => a.map((v, i) => v + b[i]);
  const row = (name, n, width) => w[name].subarray(n * width, (n + 1) * width);

  function attend(name, xs, heads) {
    const [q, k, v] = ["W_q", "W_k", "W_v"].map((part) => xs.map((x) => linear(`${name}.${part}`, x)));
    const d = q[0].length / heads;
    return xs.map((_, i) => {
      const out = new Float32Array(q[0].length);
      for (let h = 0; h < heads; h++) {
        const scores = k.map((key) => {
          let sum = 0;
          for (let t = h * d; t < (h + 1) * d; t++) sum += q[i][t] * key[t];
          return sum / Math.sqrt(d);
        });
        const top = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - top));
        const total = weights.reduce((a, b) => a + b, 0);
        v.forEach((value, j) => {
          for (let t = h * d; t < (h + 1) * d; t++) out[t] += (weights[j] / total) * value[t];
        });
      }
      return linear(`${name}.W_o`, out);
    });
  }
  function run(side, xs, { layers, heads }) {
    for (let n = 0; n < layers; n++) {
      const name = `${side}.layers.${n}`;
      const heard = attend(`${name}.self_attention`, xs.map((x) => norm(`${name}.norm1`, x)), heads);
      xs = xs.map((x, i) => add(x, heard[i]));
      xs = xs.map((x) => {
        const inner = linear(`${name}.feed_forward.W_1`, norm(`${name}.norm2`, x)).map(gelu);
        return add(x, linear(`${name}.feed_forward.W_2`, inner));
      });
    }
    return xs.map((x) => norm(`${side}.norm`, x));
  }

  return {
    // The predicted pixels of every patch.
    predict(cut, hidden) {
      const { encoder, decoder } = sizes;
      const place = (n) => row("encoder.positions.table", n, encoder.width);
      const visible = cut.flatMap((_, n) => (hidden[n] ? [] : [n]));
      const tokens = visible.map((n) => add(linear("encoder.patches.projection", cut[n]), place(n + 1)));
      const latent = run("encoder", [add(w["encoder.prefix"], place(0)), ...tokens], encoder)
        .map((x) => linear("decoder.embedding", x));
      const all = [latent[0], ...cut.map(() => w["decoder.mask_token"])];
      visible.forEach((n, i) => (all[n + 1] = latent[i + 1]));
      const placed = all.map((x, n) => add(x, row("decoder.positions.table", n, decoder.width)));
      return run("decoder", placed, decoder).slice(1).map((x) => linear("decoder.prediction", x));
    },
  };
}

function patchify(pixels, rows, columns, patch) {
  const width = columns * patch;
  return Array.from({ length: rows * columns }, (_, n) => {
    const top = Math.floor(n / columns) * patch, left = (n % columns) * patch;
    return Float32Array.from({ length: patch * patch }, (_, k) =>
      pixels[(top + Math.floor(k / patch)) * width + left + (k % patch)]);
  });
}

// x times the standard normal's distribution function; erf by Abramowitz and Stegun, 7.1.26.
function gelu(x) {
  const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-z * z);
  return x * (x >= 0 ? 1 - tail / 2 : tail / 2);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

export default { render };

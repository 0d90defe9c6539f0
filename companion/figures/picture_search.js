// Search pictures by text. CLIP's text tower runs here, on the weights that the figure
// carries, so any text can be asked, with a kernel behind the page or without.

const SHOWN = 12;

function render({ model, el }) {
  const names = model.get("names");
  const marked = model.get("marked");
  const columns = model.get("columns");
  const tower = textTower(model.get("weights"), model.get("sizes"));
  const tokenize = tokenizer(model.get("vocabulary"), model.get("merges"), model.get("sizes"));
  const pictures = rowsOf(tensor(model.get("pictures")), names.length);

  const root = make(el, "div", {
    class: "picture-search", role: "group", "aria-label": "Search pictures by text",
  });
  const label = make(root, "label");
  make(label, "span", {}, "Find");
  const input = make(label, "input", {
    type: "text", spellcheck: "false", autocomplete: "off", "aria-label": "Text to search for",
  });
  const ideas = make(root, "div", { class: "ps-ideas" });
  for (const idea of model.get("ideas")) {
    make(ideas, "button", { type: "button" }, idea).addEventListener("click", () => ask(idea));
  }
  const status = make(root, "p", { class: "ps-status", "aria-live": "polite" });
  const results = make(root, "ul", { class: "ps-results" });
  input.addEventListener("input", () => ask(input.value));

  function ask(query) {
    model.set("like", -1);
    model.set("query", query);
    model.save_changes();
    draw();
  }
  function more(place) {
    model.set("like", place);
    model.save_changes();
    draw();
    results.querySelector("button")?.focus();
  }

  function draw() {
    const query = model.get("query");
    const like = model.get("like");
    if (input.value !== query) input.value = query;
    const parts = query.split("+").map((part) => part.trim()).filter(Boolean);
    results.replaceChildren();
    if (like < 0 && parts.length === 0) {
      status.textContent = "Type a text, or two texts with a + between them.";
      return;
    }
    const wanted = like < 0 ? mean(parts.map((part) => tower(tokenize(part)))) : pictures[like];
    const scores = pictures.map((picture) => dot(picture, wanted));
    const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]).slice(0, SHOWN);
    for (const place of order) {
      const button = make(make(results, "li"), "button", {
        type: "button", class: marked[place] ? "ps-new" : "",
        "aria-label": `${names[place]}${marked[place] ? ", new" : ""}, cosine ${scores[place].toFixed(2)}; show more like it`,
      });
      const x = place % columns, y = Math.floor(place / columns);
      const rows = Math.ceil(names.length / columns);
      make(button, "span", {
        class: "ps-picture",
        style: `background-image:url(${model.get("sheet")});background-size:${48 * columns}px ${48 * rows}px;` +
          `background-position:${-48 * x}px ${-48 * y}px`,
      });
      const width = Math.round(100 * Math.max(0, scores[place]));
      make(button, "span", { class: "ps-bar", style: `width:${width}%` });
      make(button, "span", {}, `${names[place]} ${scores[place].toFixed(2)}`);
      if (marked[place]) make(button, "strong", {}, " new");
      button.addEventListener("click", () => more(place));
    }
    const first = order.slice(0, 3).map((place) => names[place]).join(", ");
    const what = like < 0 ? parts.map((part) => `“${part}”`).join(" and ") : `the picture of “${names[like]}”`;
    status.textContent = `Nearest to ${what}: ${first}. Choose a picture to see what is like it.`;
  }

  function paint() {
    root.toggleAttribute("data-dark", isDark());
  }
  const events = ["change:query", "change:like"];
  events.forEach((event) => model.on(event, draw));
  const stopFollowing = followTheme(paint);
  paint();
  draw();
  return () => {
    events.forEach((event) => model.off(event, draw));
    stopFollowing();
  };
}

// Byte-pair encoding, as in the package's Captions: <s> text </s>.
function tokenizer(vocabulary, merges, { bos, eos, unknown, longest }) {
  const ids = new Map(vocabulary.map((token, i) => [token, i]));
  const ranks = new Map(merges.map(([a, b], i) => [`${a} ${b}`, i]));
  const split = (piece) => {
    const parts = [...piece];
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  };
  return (text) => {
    const lower = text.normalize("NFC").toLowerCase().replaceAll("'", "’");
    const words = lower.match(/[\p{L}\p{N}]+(?:’[\p{L}\p{N}]+)*|[#*]/gu) ?? [];
    const pieces = words.flatMap((word) => `▁${word}`.split(/([’#*])/).filter(Boolean));
    const inner = pieces.flatMap(split).map((token) => ids.get(token) ?? unknown);
    return [bos, ...inner.slice(0, longest - 2), eos];
  };
}

// Token ids -> a vector of length 1: pre-norm layers, causal, read at the last token.
function textTower(stored, { heads, layers, epsilon }) {
  const w = Object.fromEntries(Object.entries(stored).map(([name, value]) => [name, tensor(value)]));
  const width = w["norm.weight"].length;
  const linear = (x, name) => {
    const weight = w[`${name}.weight`], bias = w[`${name}.bias`], n = x.length;
    return Float64Array.from({ length: weight.length / n }, (_, row) => {
      let sum = bias ? bias[row] : 0;
      for (let i = 0; i < n; i++) sum += weight[row * n + i] * x[i];
      return sum;
    });
  };
  const norm = (x, name) => {
    const middle = x.reduce((a, b) => a + b) / width;
    const variance = x.reduce((a, b) => a + (b - middle) ** 2, 0) / width;
    const scale = 1 / Math.sqrt(variance + epsilon);
    return x.map((value, i) => (value - middle) * scale * w[`${name}.weight`][i] + w[`${name}.bias`][i]);
  };
  const add = (x, y) => x.map((value, i) => value + y[i]);
  const attend = (states, name) => {
    const [q, k, v] = ["W_q", "W_k", "W_v"].map((W) => states.map((x) => linear(x, `${name}.${W}`)));
    const d = width / heads;
    return states.map((_, t) => {
      const joined = new Float64Array(width);
      for (let start = 0; start < width; start += d) {
        const logits = k.slice(0, t + 1).map((key) => {
          let sum = 0;
          for (let i = start; i < start + d; i++) sum += q[t][i] * key[i];
          return sum / Math.sqrt(d);
        });
        const top = Math.max(...logits);
        const e = logits.map((x) => Math.exp(x - top));
        const total = e.reduce((a, b) => a + b);
        e.forEach((weight, s) => {
          for (let i = start; i < start + d; i++) joined[i] += (weight / total) * v[s][i];
        });
      }
      return linear(joined, `${name}.W_o`);
    });
  };
  return (ids) => {
    let states = ids.map((id, t) =>
      Float64Array.from({ length: width }, (_, i) => w["token.weight"][id * width + i] + w["position.weight"][t * width + i]),
    );
    for (let l = 0; l < layers; l++) {
      const here = `layers.${l}`;
      const mixed = attend(states.map((x) => norm(x, `${here}.norm1`)), `${here}.self_attention`);
      states = states.map((x, t) => add(x, mixed[t]));
      states = states.map((x) => {
        const inner = linear(norm(x, `${here}.norm2`), `${here}.feed_forward.W_1`);
        const active = inner.map((value) => value / (1 + Math.exp(-1.702 * value)));
        return add(x, linear(active, `${here}.feed_forward.W_2`));
      });
    }
    return unit(linear(norm(states.at(-1), "norm"), "W_text"));
  };
}

// Half-precision numbers in base64.
function tensor(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const halves = new Uint16Array(bytes.buffer);
  return Float64Array.from(halves, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}

function rowsOf(flat, count) {
  const width = flat.length / count;
  return Array.from({ length: count }, (_, i) => flat.slice(i * width, (i + 1) * width));
}
const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
const unit = (x) => {
  const length = Math.sqrt(dot(x, x));
  return x.map((value) => value / length);
};
const mean = (vectors) => unit(vectors[0].map((_, i) => vectors.reduce((sum, x) => sum + x[i], 0)));

export default { render };

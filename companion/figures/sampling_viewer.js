// The sampling viewer: bars for the likeliest next tokens, before and after the cuts.

const SHOWN = 16; // bars

const CONTROLS = [
  { name: "temperature", label: "temperature", min: 0.1, max: 3, step: 0.05, digits: 2 },
  { name: "top_k", label: "top-k (0: off)", min: 0, max: 60, step: 1, digits: 0 },
  { name: "top_p", label: "top-p (1: off)", min: 0.05, max: 1, step: 0.01, digits: 2 },
  { name: "min_p", label: "min-p (0: off)", min: 0, max: 0.5, step: 0.01, digits: 2 },
];

function render({ model, el }) {
  const prompts = model.get("prompts");
  const root = make(el, "div", {
    class: "sampling-viewer", role: "group", "aria-label": "Sampling viewer",
  });
  const picker = make(root, "label", { class: "sv-text" }, "text so far ");
  const select = make(picker, "select", { "aria-label": "text so far" });
  prompts.forEach((prompt, i) => make(select, "option", { value: i }, prompt.text));
  select.addEventListener("change", () => choose("text", Number(select.value)));

  const panel = make(root, "div", { class: "sv-controls" });
  const inputs = {};
  for (const { name, label, min, max, step } of CONTROLS) {
    const row = make(panel, "label", {}, `${label} `);
    const input = make(row, "input", { type: "range", min, max, step, "aria-label": label });
    const shown = make(row, "output", {});
    input.addEventListener("input", () => choose(name, Number(input.value)));
    inputs[name] = { input, shown };
  }
  const reset = make(panel, "button", { type: "button" }, "reset");
  reset.addEventListener("click", () => {
    for (const [name, value] of Object.entries({ temperature: 1, top_k: 0, top_p: 1, min_p: 0 })) {
      model.set(name, value);
    }
    model.save_changes();
  });

  const bars = make(root, "div", { class: "sv-bars", role: "list", "aria-label": "next tokens" });
  const rows = Array.from({ length: SHOWN }, () => {
    const row = make(bars, "div", { class: "sv-row", role: "listitem" });
    return {
      row,
      token: make(row, "span", { class: "sv-token" }),
      track: make(make(row, "span", { class: "sv-track" }), "span", { class: "sv-bar" }),
      value: make(row, "span", { class: "sv-value" }),
    };
  });
  const status = make(root, "p", { class: "sv-status", "aria-live": "polite" });

  function choose(name, value) {
    model.set(name, value);
    model.save_changes();
  }

  function draw() {
    const prompt = prompts[model.get("text")];
    select.value = String(model.get("text"));
    for (const { name, digits } of CONTROLS) {
      inputs[name].input.value = String(model.get(name));
      inputs[name].shown.textContent = model.get(name).toFixed(digits);
    }
    const kept = distribution(prompt, {
      temperature: model.get("temperature"), topK: model.get("top_k"),
      topP: model.get("top_p"), minP: model.get("min_p"),
    });
    rows.forEach(({ row, token, track, value }, i) => {
      const p = kept.named[i] ?? 0;
      token.textContent = visible(prompt.tokens[i] ?? "");
      track.style.width = `${100 * p}%`;
      value.textContent = p === 0 ? "cut" : p < 0.0005 ? "<0.001" : p.toFixed(3);
      row.classList.toggle("sv-cut", p === 0);
    });
    const shown = kept.named.slice(0, SHOWN).reduce((a, b) => a + b, 0);
    const rest = Math.max(0, 1 - shown);
    // Beyond the named tokens only a histogram is known, and a cut may fall inside a bin.
    const cut = kept.count > kept.named.length && kept.count < kept.all;
    status.textContent =
      `${cut ? "About " : ""}${kept.count.toLocaleString("en")} tokens can be drawn. ` +
      `The ${SHOWN} shown have ${(100 * shown).toFixed(1)} %, all others ${(100 * rest).toFixed(1)} %.`;
  }

  const paint = () => root.toggleAttribute("data-dark", isDark());
  const events = ["text", ...CONTROLS.map(({ name }) => name)].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, draw));
  const themes = new MutationObserver(paint);
  for (const element of [document.documentElement, document.body]) {
    themes.observe(element, {
      attributes: true, attributeFilter: ["class", "data-theme", "data-jp-theme-light"],
    });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", paint);
  paint();
  draw();
  return () => {
    events.forEach((event) => model.off(event, draw));
    themes.disconnect();
    system.removeEventListener("change", paint);
  };
}

// Probabilities of the named tokens, and how many of all can be drawn. The settings apply
// in the order of companion.Sampling: temperature, top-k, top-p, min-p.
function distribution(prompt, { temperature, topK, topP, minP }) {
  const all = prompt.logits.length + prompt.rest_counts.reduce((a, b) => a + b, 0);
  // Groups of equal logits, the likeliest first: named tokens are groups of one.
  const groups = [
    ...prompt.logits.map((logit) => ({ logit, count: 1, named: true })),
    ...prompt.rest_logits.map((logit, i) => ({ logit, count: prompt.rest_counts[i] })),
  ].map((group) => ({ ...group, p: Math.exp(group.logit / temperature) }));
  if (topK > 0) groups.forEach((group, i) => { if (i >= topK) group.count = 0; });
  normalize(groups);
  if (topP < 1) {
    let before = 0; // what likelier tokens add up to
    for (const group of groups) {
      const room = Math.max(0, Math.ceil((topP - before) / group.p - 1e-9));
      before += group.p * group.count;
      group.count = Math.min(group.count, room);
    }
    normalize(groups);
  }
  if (minP > 0) {
    for (const group of groups) if (group.p < minP * groups[0].p) group.count = 0;
    normalize(groups);
  }
  return {
    named: groups.filter((g) => g.named).map((g) => (g.count ? g.p : 0)),
    count: groups.reduce((sum, g) => sum + g.count, 0),
    all,
  };
}

function normalize(groups) {
  const total = groups.reduce((sum, g) => sum + g.p * g.count, 0);
  for (const group of groups) group.p /= total;
}

function visible(token) {
  return token.replaceAll(" ", "␣").replaceAll("\n", "⏎");
}

// Dark by the page's own word where it has one (Sphinx, JupyterLab, VS Code), else the system's.
function isDark() {
  const theme = document.documentElement.dataset.theme;
  if (theme) return theme === "dark";
  const jupyter = document.body.dataset.jpThemeLight;
  if (jupyter) return jupyter === "false";
  if (/vscode-(dark|light)/.test(document.body.className)) {
    return document.body.classList.contains("vscode-dark");
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function make(parent, tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== "") element.textContent = text;
  parent?.append(element);
  return element;
}

export default { render };

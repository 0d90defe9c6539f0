// What the interactive figures share: `figure_module` puts it in front of each one's module.

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

// Call `paint` whenever the page turns light or dark, until the function that is returned is called.
function followTheme(paint) {
  const themes = new MutationObserver(paint);
  for (const element of [document.documentElement, document.body]) {
    themes.observe(element, {
      attributes: true,
      attributeFilter: ["class", "data-theme", "data-jp-theme-light"],
    });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", paint);
  return () => {
    themes.disconnect();
    system.removeEventListener("change", paint);
  };
}

function make(parent, tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== "") element.textContent = text;
  parent.append(element);
  return element;
}

// A figure's card: a frame with a name, and a caption under what the frame holds.
function makeCard(el, kind, name, caption) {
  const root = make(el, "figure", { class: `companion-card ${kind}`, "aria-label": name });
  const body = make(root, "div");
  make(root, "figcaption", {}, caption);
  return [root, body];
}

// A labelled slider. The function that is returned shows a value, and a text for it.
function addSlider(parent, label, range, act) {
  const row = make(parent, "label", { class: "cc-slider" });
  make(row, "span", {}, label);
  const input = make(row, "input", { type: "range", "aria-label": label, ...range });
  const output = make(row, "output");
  input.addEventListener("input", () => act(Number(input.value)));
  return (value, text = value) => {
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
}

// A labelled list to choose from. The function that is returned shows the choice of a number.
function addChoice(parent, label, names, act) {
  const row = make(parent, "label", { class: "cc-choice" });
  make(row, "span", {}, label);
  const select = make(row, "select", { "aria-label": label });
  names.forEach((name, i) => make(select, "option", { value: i }, name));
  select.addEventListener("change", () => act(Number(select.value)));
  return (choice) => (select.value = choice);
}

// A box to tick. The function that is returned shows whether it is.
function addBox(parent, label, act) {
  const row = make(parent, "label", { class: "cc-box" });
  const input = make(row, "input", { type: "checkbox" });
  make(row, "span", {}, label);
  input.addEventListener("change", () => act(input.checked));
  return (is) => (input.checked = is);
}

function makeSvg(parent, tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAll(element, attributes);
  if (text !== "") element.textContent = text;
  parent.append(element);
  return element;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// A small chart with a mark at one x. The function that is returned draws it: `lines` are
// {points: [[x, y], ...], kind: a class}; `ticks` of an axis are [[value, text], ...].
function makeChart(parent, title, x) {
  const box = make(parent, "div", { class: "cc-chart" });
  make(box, "p", { class: "cc-title" }, title);
  const svg = makeSvg(box, "svg", { viewBox: "0 0 300 170", role: "img" });
  const [left, right, top, bottom] = [40, 284, 8, 136];
  return ({ lines, mark, y, says }) => {
    svg.replaceChildren();
    svg.setAttribute("aria-label", says);
    const place = (axis, value, from, to) =>
      from + ((value - axis.range[0]) / (axis.range[1] - axis.range[0])) * (to - from);
    const across = (value) => place(x, value, left, right);
    const up = (value) => place(y, value, bottom, top);
    for (const [value, text] of y.ticks) {
      makeSvg(svg, "line", { class: "cc-grid", x1: left, x2: right, y1: up(value), y2: up(value) });
      makeSvg(svg, "text", { x: left - 5, y: up(value) + 4, "text-anchor": "end" }, text);
    }
    for (const [value, text] of x.ticks) {
      makeSvg(svg, "text", { x: across(value), y: bottom + 15, "text-anchor": "middle" }, text);
    }
    makeSvg(svg, "text", { x: (left + right) / 2, y: bottom + 30, "text-anchor": "middle" }, x.label);
    for (const { points, kind } of lines) {
      const path = points.map(([a, b]) => `${across(a).toFixed(1)},${up(b).toFixed(1)}`);
      makeSvg(svg, "polyline", { class: kind, points: path.join(" ") });
    }
    makeSvg(svg, "line", { class: "cc-mark", x1: across(mark), x2: across(mark), y1: top, y2: bottom });
  };
}

// Draw now, whenever one of the traits changes, and when the page turns light or dark, until
// the function that is returned is called.
function keepDrawn(model, root, names, draw) {
  const paint = () => {
    root.toggleAttribute("data-dark", isDark());
    draw();
  };
  names.forEach((name) => model.on(`change:${name}`, draw));
  const stopFollowing = followTheme(paint);
  paint();
  return () => {
    names.forEach((name) => model.off(`change:${name}`, draw));
    stopFollowing();
  };
}

function changeTraits(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

// A group of radio buttons; `choose` is told the number of the picked one. What is returned
// shows another one as picked.
function radios(parent, legend, names, choose) {
  const group = make(parent, "fieldset", { class: "choices" });
  make(group, "legend", {}, legend);
  const name = `choice-${Math.random()}`; // one group of the page, not several
  const inputs = names.map((text, i) => {
    const label = make(group, "label");
    const input = make(label, "input", { type: "radio", name });
    make(label, "span", {}, text);
    input.addEventListener("change", () => choose(i));
    return input;
  });
  return (picked) => inputs.forEach((input, i) => (input.checked = i === picked));
}

// A number with a true minus, and with none before a zero.
function numberText(x, digits) {
  const text = x.toFixed(digits);
  return (Number(text) === 0 ? (0).toFixed(digits) : text).replace("-", "−");
}

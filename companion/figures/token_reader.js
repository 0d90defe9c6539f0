// The token reader: a text shaded by surprise, and what was expected at the chosen token.

const MOST = 8; // bits; what surprises more is shaded the same

function render({ model, el }) {
  const readings = model.get("readings");
  const [root, body] = makeCard(el, "token-reader", "Token reader", model.get("caption"));
  const controls = make(body, "div");
  const showText = addChoice(controls, "text", readings.map(({ title }) => title), open);
  controls.hidden = readings.length < 2;
  const ways = make(body, "div");
  make(body, "p", { class: "cc-title" },
    "Point at a token, click it to keep it, or move with the arrow keys. The stronger its color, the more surprising.");
  const strip = make(body, "div", { class: "tr-strip", role: "radiogroup", "aria-label": "Tokens" });
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });
  const bars = make(body, "div", { class: "tr-bars", role: "list", "aria-label": "Expected here" });
  const means = make(body, "p", { class: "tr-means" });
  let shown = -1; // the text that the strip holds
  let buttons = []; // one a token, null where nothing was asked
  let pick = () => {};
  let hovered = null;
  let changing = false;

  const reading = () => readings[model.get("text")];
  const places = () => reading().ways[model.get("way")]?.[1];

  // Another text: the way of the same name if it has one, and its most surprising token.
  function open(text) {
    const name = reading().ways[model.get("way")][0];
    const way = Math.max(readings[text].ways.findIndex(([other]) => other === name), 0);
    const asked = readings[text].ways[way][1];
    const place = asked.reduce((best, e, i) => (e && (best < 0 || e[0] < asked[best][0]) ? i : best), -1);
    change({ text, way, place });
  }
  function change(values) {
    hovered = null;
    changing = true; // one trait at a time may not fit the others
    changeTraits(model, values);
    changing = false;
    draw();
  }
  function hover(place) {
    hovered = place;
    draw();
  }
  function move(event) {
    const asked = buttons.map((button, i) => (button ? i : -1)).filter((i) => i >= 0);
    const at = asked.indexOf(model.get("place"));
    const to = {
      ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1,
      Home: 0, End: asked.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    change({ place: asked[Math.min(Math.max(to, 0), asked.length - 1)] });
    buttons[model.get("place")].focus();
  }
  strip.addEventListener("keydown", move);
  strip.addEventListener("pointerleave", () => hover(null));

  function build() {
    shown = model.get("text");
    ways.replaceChildren();
    const names = reading().ways.map(([name]) => name);
    pick = radios(ways, "read with", names, (way) => {
      const asked = reading().ways[way][1];
      const kept = asked[model.get("place")] ? model.get("place") : asked.findIndex(Boolean);
      change({ way, place: kept });
    });
    ways.hidden = names.length < 2;
    strip.replaceChildren();
    const asked = (i) => reading().ways.some(([, of]) => of[i]);
    buttons = reading().tokens.map((token, i) => {
      const text = visible(token);
      const button = asked(i)
        ? make(strip, "button", { type: "button", role: "radio" }, text)
        : (make(strip, "span", {}, text), null);
      if (token.endsWith("\n")) make(strip, "br");
      button?.addEventListener("click", () => change({ place: i }));
      button?.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(i));
      return button;
    });
  }

  function draw() {
    if (changing || !places()?.[model.get("place")]) return;
    if (shown !== model.get("text")) build();
    showText(shown);
    pick(model.get("way"));
    const kept = model.get("place");
    const place = hovered !== null && places()[hovered] ? hovered : kept;
    buttons.forEach((button, i) => {
      if (!button) return;
      const expected = places()[i];
      const bits = expected ? surprise(expected) : 0;
      button.style.setProperty("--share", `${Math.round((100 * Math.min(bits, MOST)) / MOST)}%`);
      button.setAttribute("aria-checked", String(i === kept));
      button.setAttribute("aria-label", `${visible(reading().tokens[i])}, ${bits.toFixed(1)} bits`);
      button.tabIndex = i === kept ? 0 : -1;
      button.classList.toggle("tr-here", i === place);
    });
    const token = reading().tokens[place];
    const expected = places()[place];
    const rank = expected[1].findIndex(([other]) => other === token);
    const told = rank === 0 ? "It is the first guess." : rank > 0 ? `It is guess ${rank + 1}.`
      : `It is not among the first ${expected[1].length}.`;
    status.textContent =
      `Here stands “${visible(token)}”, with p = ${digits(expected[0])}: ${surprise(expected).toFixed(1)} bits. ${told}`;
    bars.replaceChildren();
    const rows = rank < 0 ? [...expected[1], [token, expected[0]]] : expected[1];
    for (const [other, p] of rows) {
      const row = make(bars, "div", { role: "listitem", class: other === token ? "tr-true" : "" });
      make(row, "span", { class: "tr-token" }, visible(other));
      make(make(row, "span", { class: "tr-track" }), "span", { class: "tr-bar", style: `width:${100 * p}%` });
      make(row, "span", { class: "tr-value" }, digits(p) + (other === token ? " ✓" : ""));
    }
    const all = reading().ways.map(([name, of]) => {
      const asked = of.filter(Boolean);
      return `${name} ${(asked.reduce((sum, e) => sum + surprise(e), 0) / asked.length).toFixed(2)}`;
    });
    means.textContent = `Mean of this text, in bits a token: ${all.join("; ")}.`;
  }

  return keepDrawn(model, root, ["text", "way", "place"], draw);
}

const surprise = ([p]) => Math.max(0, -Math.log2(p));
const digits = (p) => (p < 0.001 ? p.toExponential(0) : p.toFixed(3));
const visible = (token) => token.replaceAll(" ", "␣").replaceAll("\n", "⏎");

export default { render };

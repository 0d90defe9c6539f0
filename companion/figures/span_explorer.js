// The span explorer: take tokens out of a text; below, what the model reads and what it writes.
// The same rules as reads() and writes() in span_explorer.py.

const NOISES = ["spans", "infilling", "masks"];
const WRITES = {
  spans: "the decoder writes", infilling: "the decoder writes", masks: "asked for, at the masks",
};

function render({ model, el }) {
  const tokens = model.get("tokens");
  const draws = model.get("draws");
  const [root, body] = makeCard(el, "span-explorer", "Span explorer", model.get("caption"));
  const showNoise = radios(
    body, "damage", ["T5’s spans", "BART’s infilling", "BERT’s masks"],
    (i) => change({ noise: NOISES[i] }),
  );
  const drawn = { share: 0, length: 0, number: -1 };
  const showShare = radios(
    body, "taken out", model.get("shares").map((share) => `${Math.round(100 * share)} %`),
    (share) => redraw({ share, number: 0 }),
  );
  const showLength = radios(
    body, "mean length of a span", model.get("lengths").map(String),
    (length) => redraw({ length, number: 0 }),
  );
  const again = make(body, "button", { type: "button" }, "draw again");
  again.addEventListener("click", () => redraw({ number: (drawn.number + 1) % draws[0][0].length }));
  make(body, "p", { class: "cc-title se-how" },
    "Click a token to take it out or put it back; or go to it with the arrow keys, and press space.");
  const strip = make(body, "div", { class: "se-text", role: "group", "aria-label": "Text" });
  const buttons = tokens.map((token, i) => {
    const button = make(strip, "button", { type: "button", tabindex: i ? -1 : 0 }, token);
    button.addEventListener("click", () => {
      focusOn(i);
      const gone = [...model.get("gone")];
      gone[i] = !gone[i];
      drawn.number = -1;
      change({ gone });
    });
    return button;
  });
  strip.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = {
      ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1,
      Home: 0, End: buttons.length - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    focusOn(Math.min(Math.max(to, 0), buttons.length - 1));
  });
  const [reads, writes] = ["se-reads", "se-writes"].map((name) => {
    const box = make(body, "div", { class: "se-side" });
    return [make(box, "p", { class: "cc-title" }), make(box, "p", { class: name })];
  });
  const status = make(body, "p", { class: "cc-status", "aria-live": "polite" });

  function focusOn(place) {
    buttons.forEach((button, i) => (button.tabIndex = i === place ? 0 : -1));
    buttons[place].focus();
  }
  function redraw(values) {
    Object.assign(drawn, values);
    const bits = draws[drawn.share][drawn.length][drawn.number];
    change({ gone: [...bits].map((bit) => bit === "1") });
  }
  function change(values) {
    changeTraits(model, values);
    draw();
  }

  function draw() {
    const gone = model.get("gone");
    const noise = model.get("noise");
    showNoise(NOISES.indexOf(noise));
    // What was drawn is what is shown, until a token is moved by hand.
    const drawnNow = draws.flatMap((of, share) => of.flatMap((some, length) =>
      some.includes(gone.map(Number).join("")) ? [[share, length]] : []));
    const [share, length] = drawnNow.find(([s, l]) => s === drawn.share && l === drawn.length) ?? drawnNow[0] ?? [-1, -1];
    if (share >= 0) Object.assign(drawn, { share, length });
    showShare(share);
    showLength(length);
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(gone[i])));
    const [read, wrote] = damaged(tokens, gone, noise);
    say(reads, "the encoder reads", read);
    say(writes, WRITES[noise], wrote);
    const count = gone.filter(Boolean).length;
    status.textContent =
      `Of ${tokens.length} tokens ${count} are out, in ${read.filter(isSign).length} ` +
      `${noise === "masks" ? "masks" : "spans"}. The encoder reads ${read.length}, ` +
      (noise === "masks" ? `and ${wrote.length} are asked for.` : `the decoder writes ${wrote.length}.`);
  }
  function say([title, text], name, list) {
    title.textContent = `${name} (${list.length} tokens)`;
    text.replaceChildren();
    for (const token of list) {
      make(text, isSign(token) ? "mark" : "span", {}, token);
      text.append(" ");
    }
    if (list.length === 0) make(text, "span", {}, "nothing");
  }

  return keepDrawn(model, root, ["gone", "noise"], draw);
}

// The text that is left and what is asked for, as lists of tokens.
function damaged(tokens, gone, noise) {
  const read = [], spans = [];
  tokens.forEach((token, i) => {
    const begins = gone[i] && !gone[i - 1];
    if (begins) spans.push([]);
    if (gone[i]) spans.at(-1).push(token);
    if (!gone[i]) read.push(token);
    else if (noise === "masks" || (noise === "infilling" && begins)) read.push("___");
    else if (begins) read.push(sentinel(spans.length - 1));
  });
  if (noise === "infilling") return [read, tokens];
  if (noise === "masks") return [read, spans.flat()];
  return [read, [...spans.flatMap((span, i) => [sentinel(i), ...span]), sentinel(spans.length)]];
}
const sentinel = (number) => `<${String.fromCharCode(65 + number)}>`;
const isSign = (token) => token === "___" || /^<[A-Z]>$/.test(token);

export default { render };

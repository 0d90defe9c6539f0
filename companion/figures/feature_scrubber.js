// The feature scrubber: a slider over training, a map of images, the neighbors of one of them.

const MAP = 1000; // places are from 0 to 999
const RIM = 28;
const HUES = ["#0072b2", "#b87c00", "#009e73", "#d55e00", "#b0568a",
  "#2f8fc7", "#5b5b5b", "#8a6d00", "#00568a", "#a8324a"];

function render({ model, el }) {
  const steps = model.get("steps");
  const places = model.get("places");
  const nearest = model.get("nearest");
  const labels = model.get("labels");
  const classes = model.get("classes");
  const [count, height, width] = model.get("shape");
  const pixels = Uint8Array.from(atob(model.get("pixels")), (c) => c.charCodeAt(0));

  const root = make(el, "div", {
    class: "feature-scrubber", role: "group", "aria-label": "Feature scrubber",
  });
  const row = make(root, "label", { class: "fs-slider" });
  make(row, "span", {}, "updates");
  const slider = make(row, "input", {
    type: "range", min: 0, max: steps.length - 1, step: 1, "aria-label": "updates",
  });
  const value = make(row, "output");
  make(root, "p", { class: "fs-name" },
    "Each mark is an image, written as its label, which the model never saw. Point at one, or walk with the arrow keys.");
  const map = make(root, "canvas", {
    class: "fs-map", width: MAP + 2 * RIM, height: MAP + 2 * RIM, tabindex: 0, role: "img",
  });
  make(root, "p", { class: "fs-name" }, "The image, and its nearest neighbors in the features");
  const strip = make(root, "div", { class: "fs-strip" });
  const status = make(root, "p", { class: "fs-status", "aria-live": "polite" });
  const pictures = Array.from({ length: 1 + nearest[0][0].length }, () => {
    const box = make(strip, "figure", { class: "fs-picture" });
    const canvas = make(box, "canvas", { width, height });
    return { box, canvas, caption: make(box, "figcaption") };
  });

  slider.addEventListener("input", () => change("moment", Number(slider.value)));
  map.addEventListener("pointermove", (event) => change("chosen", under(event)));
  map.addEventListener("click", (event) => change("chosen", under(event)));
  map.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    change("chosen", (model.get("chosen") + step + count) % count);
  });

  function under(event) {
    const box = map.getBoundingClientRect();
    const scale = (MAP + 2 * RIM) / box.width;
    const x = (event.clientX - box.left) * scale - RIM;
    const y = (event.clientY - box.top) * scale - RIM;
    let best = 0;
    let least = Infinity;
    places[model.get("moment")].forEach(([px, py], i) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }
  function change(name, to) {
    if (model.get(name) === to) return;
    model.set(name, to);
    model.save_changes();
    draw();
  }

  function draw() {
    const moment = model.get("moment");
    const chosen = model.get("chosen");
    const near = nearest[moment][chosen];
    slider.value = moment;
    slider.setAttribute("aria-valuetext", `${steps[moment]} updates`);
    value.textContent = steps[moment];
    const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
    const paint = map.getContext("2d");
    paint.clearRect(0, 0, map.width, map.height);
    paint.textAlign = "center";
    paint.textBaseline = "middle";
    const at = (i) => places[moment][i].map((p) => p + RIM);
    paint.lineWidth = 3;
    paint.strokeStyle = color("--line");
    for (const i of near) {
      paint.beginPath();
      paint.moveTo(...at(chosen));
      paint.lineTo(...at(i));
      paint.stroke();
    }
    labels.forEach((label, i) => {
      const marked = i === chosen || near.includes(i);
      paint.font = `${marked ? "bold 40px" : "28px"} system-ui, sans-serif`;
      paint.fillStyle = root.hasAttribute("data-dark")
        ? `color-mix(in srgb, ${HUES[label % HUES.length]} 60%, white)`
        : HUES[label % HUES.length];
      paint.fillText(classes[label], ...at(i));
    });
    paint.strokeStyle = color("--ink");
    paint.beginPath();
    paint.arc(...at(chosen), 26, 0, 2 * Math.PI);
    paint.stroke();

    [chosen, ...near].forEach((image, i) => {
      const { box, canvas, caption } = pictures[i];
      const data = new ImageData(width, height);
      for (let p = 0; p < width * height; p++) {
        const ink = 255 - pixels[image * width * height + p];
        data.data.set([ink, ink, ink, 255], 4 * p);
      }
      canvas.getContext("2d").putImageData(data, 0, 0);
      caption.textContent = classes[labels[image]];
      box.toggleAttribute("data-other", labels[image] !== labels[chosen]);
    });
    const same = nearest[moment].reduce(
      (sum, list, i) => sum + list.filter((j) => labels[j] === labels[i]).length, 0,
    );
    const share = Math.round((100 * same) / (count * near.length));
    status.textContent =
      `After ${steps[moment]} updates, ${share} % of all nearest neighbors have the same label. ` +
      `The neighbors of this ${classes[labels[chosen]]}: ${near.map((i) => classes[labels[i]]).join(", ")}.`;
    map.setAttribute("aria-label", status.textContent);
  }

  function paintAll() {
    root.toggleAttribute("data-dark", isDark());
    draw();
  }
  const events = ["change:moment", "change:chosen"];
  events.forEach((event) => model.on(event, draw));
  const stopFollowing = followTheme(paintAll);
  paintAll();
  return () => {
    events.forEach((event) => model.off(event, draw));
    stopFollowing();
  };
}

export default { render };

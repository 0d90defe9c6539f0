// Hosts an interactive figure on a page without Jupyter; placed in the figure's own element.
(() => {
  const figure = document.currentScript.parentElement;
  const view = figure.querySelector(".companion-figure-view");
  const { module, state } = JSON.parse(
    figure.querySelector('script[type="application/json"]').textContent,
  );

  // What an anywidget model does, without a kernel behind it.
  const listeners = new Map();
  const tell = (event, ...details) =>
    [...(listeners.get(event) ?? [])].forEach((listener) => listener(...details));
  const model = {
    get: (name) => state[name],
    set: (name, value) => {
      if (state[name] === value) return;
      state[name] = value;
      tell(`change:${name}`, model, value);
      tell("change", model);
    },
    on: (event, listener) => {
      if (!listeners.has(event)) listeners.set(event, new Set());
      listeners.get(event).add(listener);
    },
    off: (event, listener) => {
      if (listener) listeners.get(event)?.delete(listener);
      else if (event) listeners.delete(event);
      else listeners.clear();
    },
    save_changes: () => {},
    send: () => {},
  };

  // A module can't be imported from a string; from a blob it can, on file:// too.
  const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  import(url)
    .then((loaded) => loaded.default.render({ model, el: view }))
    .catch((error) => {
      view.textContent = `This figure could not be drawn: ${error.message}`;
      throw error;
    })
    .finally(() => URL.revokeObjectURL(url));
})();

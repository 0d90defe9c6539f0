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

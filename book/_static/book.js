// What the theme leaves to be said to who cannot see the page, or uses no pointer.
(() => {
  const SCROLLS = "article table, article div.math, article mjx-container[display]";

  // What scrolls must be reachable by Tab. The theme sees to code and outputs.
  const reach = () => {
    for (const box of document.querySelectorAll(SCROLLS)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };

  const name = () => {
    // The arrows of the menu: "Sections of Variants".
    for (const item of document.querySelectorAll(".bd-links li.has-children")) {
      const title = item.querySelector(":scope > a")?.textContent.trim();
      const arrow = item.querySelector(":scope > details > summary");
      if (title && arrow) arrow.setAttribute("aria-label", `Sections of ${title}`);
    }
    // A folded cell is named by its own words, not by "Toggle hidden content".
    for (const summary of document.querySelectorAll("article summary[aria-label]")) {
      if (summary.textContent.trim()) summary.removeAttribute("aria-label");
    }
  };

  // A list of papers may hold their anchors, which a list in the sense of ARIA may not.
  const plain = () => {
    for (const list of document.querySelectorAll(".citation-list[role=list]"))
      list.removeAttribute("role");
  };

  addEventListener("DOMContentLoaded", plain);
  addEventListener("DOMContentLoaded", name);
  addEventListener("load", () => {
    reach();
    // Formulas have their width only when they are drawn.
    window.MathJax?.startup?.promise?.then(reach);
  });
  addEventListener("resize", reach);
})();

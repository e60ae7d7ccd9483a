// Loaded on every page, before the search tools and after the theme's own scripts are queued.
"use strict";

// A page opened from a file may not read other files, so search there lists titles without excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Boxes that scroll sideways are stops of the Tab key, so that arrow keys can scroll them.
function markScrollers() {
  const boxes = "pre, .cell_output > .output, .pst-scrollable-table-container, mjx-container[display=true]";
  for (const box of document.querySelectorAll(boxes)) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

// An equation that is wider than a phone is set smaller, as long as it stays legible; beyond that it scrolls.
const SMALLEST_EQUATION = 0.6;

function fitEquations() {
  for (const equation of document.querySelectorAll("mjx-container[display=true]")) {
    equation.dataset.size ??= equation.style.fontSize || "100%";
    equation.style.fontSize = equation.dataset.size;
    const room = equation.clientWidth / equation.scrollWidth;  // not a number inside a closed fold
    if (room < 1) equation.style.fontSize = `calc(${equation.dataset.size} * ${Math.max(0.98 * room, SMALLEST_EQUATION)})`;
  }
}

function fit() {
  fitEquations();
  markScrollers();
}

window.addEventListener("load", async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  fit();
});
window.addEventListener("resize", fit);
document.addEventListener("toggle", fit, true);

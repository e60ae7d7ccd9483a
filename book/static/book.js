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

window.addEventListener("load", async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  markScrollers();
});
window.addEventListener("resize", markScrollers);
document.addEventListener("toggle", markScrollers, true);

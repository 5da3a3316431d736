// What the theme leaves out for those who read with keys or by ear. It makes some of these elements after the page is there.
function mend() {
  document.querySelector(".md-search").setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((each) => {
    each.tabIndex = 0;
  });
  document.querySelectorAll(".md-code__nav").forEach((each) => each.setAttribute("role", "none"));
}

mend();
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });

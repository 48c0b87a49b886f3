"use strict";
/* What ties the page together: theme, help, links from findings to connections and ladders, and the keys. */

(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const THEMES = ["system", "light", "dark"];
  const themeButton = document.getElementById("theme");

  function kept(value) {
    try {
      if (value !== undefined) localStorage.setItem("ctrack-theme", value);
      return localStorage.getItem("ctrack-theme");
    } catch {
      return null; // a frame or a file without storage: the choice lasts as long as the page
    }
  }

  function setTheme(theme) {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    themeButton.textContent = `Theme: ${theme}`;
    themeButton.value = theme;
    charts.redraw();
  }

  function nextTheme() {
    const theme = THEMES[(THEMES.indexOf(themeButton.value) + 1) % THEMES.length];
    kept(theme);
    setTheme(theme);
  }

  function openLadder(id) {
    const ladder = document.querySelector(`[data-ladder="${id}"]`);
    ladder.open = true;
    ladder.scrollIntoView({ block: "start" });
    ladder.querySelector("summary").focus({ preventScroll: true });
  }

  function stepFinding(by) {
    const findings = [...document.querySelectorAll(".finding")];
    const now = findings.indexOf(document.activeElement.closest(".finding"));
    const next = findings[Math.min(Math.max(now + by, 0), findings.length - 1)];
    next?.focus();
    next?.scrollIntoView({ block: "start" });
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-connection], [data-finding], [data-filter], [data-open-ladder]");
    if (!target || event.ctrlKey || event.metaKey) return;
    const { connection, finding, filter, openLadder: ladder } = target.dataset;
    event.preventDefault();
    if (connection && target.closest("#table")) table.toggle(Number(connection));
    else if (connection) table.show(Number(connection));
    else if (finding) table.narrow({ finding: String(finding - 1) });
    else if (filter) table.narrow({ text: filter });
    else openLadder(ladder);
  });

  const KEYS = {
    "?": () => document.getElementById("help").togglePopover?.(),
    "/": () => document.getElementById("filter").focus(),
    t: nextTheme,
    j: () => stepFinding(1),
    k: () => stepFinding(-1),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (typing && event.key === "Escape") event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  function follow() {
    const named = /^#connection-(\d+)$/.exec(location.hash);
    if (named) table.show(Number(named[1]));
  }
  addEventListener("hashchange", follow);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.redraw());
  themeButton.addEventListener("click", nextTheme);
  setTheme(THEMES.includes(kept()) ? kept() : "system");
  follow();
})();

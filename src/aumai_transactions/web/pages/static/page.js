// What a page does by itself; everything works without it.
//
// Owns: what a live update must leave alone, the age of times, copying, the key "/", and whether
// the page is live.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // A live update must not close what somebody has opened. This file runs before htmx, so that it
  // misses none of its events.
  document.addEventListener("htmx:sse:before:connection", () => {
    htmx.registerExtension("keep-open", {
      htmx_before_morph_attr: (element, detail) =>
        !(element.tagName === "DETAILS" && detail.attrName === "open"),
    });
  });

  const state = document.getElementById("link-state");
  const tell = (text, kind) => {
    if (state && state.textContent !== text) {
      state.textContent = text;
      state.className = "link-state " + kind;
    }
  };
  document.addEventListener("htmx:sse:after:connection", () => tell("live", "good"));
  document.addEventListener("htmx:sse:error", () => tell("not live", "bad"));
  document.addEventListener("htmx:sse:close", () => tell("not live", "bad"));

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const age = (at) => {
    const seconds = (Date.now() - at) / 1000;
    const size = Math.abs(seconds);
    const unit = units.find(([length]) => size >= length);
    if (!unit) return "now";
    const text = Math.floor(size / unit[0]) + " " + unit[1];
    return seconds > 0 ? text + " ago" : "in " + text;
  };
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const text = age(Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
  }, 10000);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });

  document.addEventListener("keydown", (event) => {
    const search = document.querySelector("[data-search]");
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && search && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
  });
})();

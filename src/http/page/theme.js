// @ts-check
// Applies the colors that were chosen in this browser: light, dark, or those of the system. This file is not a module,
// so browsers run it before they draw anything, and the page never flashes in the other colors.
"use strict";

{
  const KEY = "liveobject-theme";
  const root = document.documentElement;

  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      // Browsers can forbid all storage.
      return null;
    }
  };

  const apply = () => {
    const theme = stored();
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    /** @type {NodeListOf<HTMLMetaElement>} */
    const metas = document.querySelectorAll("meta[name=theme-color]");
    for (const meta of metas) {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : meta.media.includes("dark");
      meta.content = isDark ? "#161b21" : "#ffffff";
    }
  };

  apply();
  // Other tabs change along.
  addEventListener("storage", (event) => {
    if (event.key === KEY || event.key === null) apply();
  });
  addEventListener("theme-chosen", apply);
}

"use strict";
(() => {
  const form = document.querySelector(".filters");
  const flips = [...document.querySelectorAll(".flip")];
  if (!form || !flips.length) return;
  const domain = document.getElementById("f-domain");
  const text = document.getElementById("f-text");
  const count = document.getElementById("f-count");
  const none = document.getElementById("f-none");
  const kinds = [...form.querySelectorAll("input[name=kind]")];
  const open = (yes) => flips.forEach((flip) => { flip.open = yes; });

  const filter = () => {
    const wanted = new Set(kinds.filter((box) => box.checked).map((box) => box.value));
    const words = text.value.trim().toLowerCase();
    let shown = 0;
    for (const flip of flips) {
      const fits = wanted.has(flip.dataset.kind)
        && (!domain.value || flip.dataset.domain === domain.value)
        && (!words || flip.textContent.toLowerCase().includes(words));
      flip.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${flips.length} shown`;
    none.hidden = shown > 0;
  };

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("f-open").addEventListener("click", () => open(true));
  document.getElementById("f-close").addEventListener("click", () => open(false));
  window.addEventListener("beforeprint", () => open(true));
  flips.forEach((flip, place) => { flip.open = place < 2; });
  form.hidden = false;
  filter();
})();

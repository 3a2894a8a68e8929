// Comfort only: without this script every text, figure and table of the page is still there.
(function () {
  "use strict";
  const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));

  // Tables: a click on a heading sorts, a second click turns the order round.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    return text;
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const x = Number(a), y = Number(b);
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, "en", { numeric: true });
  };
  all("table[data-sortable]").forEach((table) => {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = Array.from(table.tBodies[0].rows);
        rows.sort((a, b) => (down ? -1 : 1) * compare(key(a, column), key(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  });

  // Figures: a click or Enter shows the figure as large as the window allows.
  const zoom = document.getElementById("zoom");
  const stage = zoom.querySelector(".stage");
  zoom.querySelector(".close").addEventListener("click", () => zoom.close());
  zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });
  zoom.addEventListener("close", () => stage.replaceChildren());
  all("figure .card").forEach((card) => {
    const image = card.querySelector("img");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    const title = card.parentElement.querySelector("h5").textContent;
    button.setAttribute("aria-label", "Enlarge: " + title);
    button.append(image);
    card.append(button);
    button.addEventListener("click", () => {
      const large = image.cloneNode();
      large.removeAttribute("width");
      large.removeAttribute("height");
      stage.replaceChildren(large);
      zoom.showModal();
    });
  });

  // Sections: hide what does not hold the words typed, or has no issue.
  const filter = document.querySelector(".filter");
  const items = all("details.item");
  if (items.length > 1) {
    filter.hidden = false;
    const words = document.getElementById("filter");
    const only = document.getElementById("only-issues");
    const count = document.getElementById("filter-count");
    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      items.forEach((item) => {
        const text = item.dataset.filter.toLowerCase();
        const issues = !only.checked || item.dataset.issues !== undefined;
        item.hidden = !(issues && wanted.every((word) => text.includes(word)));
        shown += item.hidden ? 0 : 1;
      });
      const active = wanted.length > 0 || only.checked;
      all("details.group").forEach((group) => {
        const found = group.querySelector("details.item:not([hidden])") !== null;
        group.hidden = !found;
        if (active) group.open = found;
      });
      count.textContent = active ? shown + " of " + items.length + " shown" : "";
    };
    words.addEventListener("input", apply);
    only.addEventListener("change", apply);
  }

  // Copy buttons. Files opened from disk have no clipboard interface everywhere: fall back.
  const say = (button, text) => {
    const before = button.dataset.text || button.textContent;
    button.dataset.text = before;
    button.textContent = text;
    window.setTimeout(() => { button.textContent = before; }, 1500);
  };
  const byHand = (target) => {
    const range = document.createRange();
    range.selectNodeContents(target);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  };
  all("button.copy").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      const target = document.getElementById(button.dataset.copy);
      const done = () => say(button, "Copied");
      const fall = () => say(button, byHand(target) ? "Copied" : "Selected");
      if (navigator.clipboard) navigator.clipboard.writeText(target.innerText).then(done, fall);
      else fall();
    });
  });

  // Folded parts: open the one that a link points to, and all of them for printing.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", reveal);
  reveal();
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    closed.forEach((part) => { part.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
})();

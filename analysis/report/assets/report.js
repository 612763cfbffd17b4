"use strict";
// Hovering tells a mark's value and lights the same configuration everywhere; buttons switch series; headers sort.
(() => {
  const REACH = 24;
  const box = document.getElementById("told");

  const light = (item) => {
    for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
    for (const svg of document.querySelectorAll("svg.some")) svg.classList.remove("some");
    if (!item) return;
    for (const mark of document.querySelectorAll(`[data-item="${CSS.escape(item)}"]`)) {
      mark.classList.add("lit");
      mark.closest("svg")?.classList.add("some");
    }
  };

  const nearest = (svg, x, y) => {
    let found = null;
    let least = REACH;
    for (const mark of svg.querySelectorAll("[data-told]")) {
      const place = mark.getBoundingClientRect();
      if (place.width === 0 && place.height === 0) continue;
      // A mark of one text is a shape: inside of a small one, or beside it, is near.
      const apart = Math.hypot(x - place.x - place.width / 2, y - place.y - place.height / 2);
      if (Math.min(place.width, place.height) < 2 * REACH && Math.max(place.width, place.height) < 2 * REACH && apart < least) {
        least = apart;
        found = mark;
      }
    }
    return found;
  };

  const show = (svg, event) => {
    const under = event.target.closest("[data-told]");
    const mark = under ?? nearest(svg, event.clientX, event.clientY);
    box.hidden = mark === null;
    light(mark?.closest("[data-item]")?.dataset.item);
    if (mark === null) return;
    box.textContent = mark.dataset.told;
    const wide = box.offsetWidth;
    const right = event.clientX + 14 + wide > window.innerWidth;
    box.style.left = `${Math.max(4, right ? event.clientX - 14 - wide : event.clientX + 14)}px`;
    box.style.top = `${Math.min(event.clientY + 14, window.innerHeight - box.offsetHeight - 4)}px`;
  };

  for (const svg of document.querySelectorAll("figure svg")) {
    svg.addEventListener("pointermove", (event) => show(svg, event));
    svg.addEventListener("pointerleave", () => {
      box.hidden = true;
      light("");
    });
  }

  for (const button of document.querySelectorAll("button[data-switch]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      const marks = button.closest("figure").querySelectorAll(`[data-series="${CSS.escape(button.dataset.switch)}"]`);
      for (const mark of marks) mark.classList.toggle("off", !on);
    });
  }

  // A link to a section that is folded opens it.
  const unfold = () => {
    const section = location.hash && document.querySelector(location.hash);
    if (section instanceof HTMLDetailsElement) section.open = true;
  };
  window.addEventListener("hashchange", unfold);
  unfold();
  window.addEventListener("beforeprint", () => {
    for (const section of document.querySelectorAll("details")) section.open = true;
  });

  // Numbers by their size, whatever stands behind them; words in their order; what is missing last.
  const key = (cell) => {
    const text = cell.textContent.trim().replace(/−/g, "-").replace(/,(?=\d{3})/g, "");
    const number = /^[(>]?\s*(-?\d+(?:\.\d+)?)(?:[^×]*× 10(-?\d+))?/.exec(text);
    if (number && cell.style.textAlign === "right") return Number(number[1]) * 10 ** Number(number[2] ?? 0);
    return text === "" || text.startsWith("–") ? null : text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
  };
  for (const table of document.querySelectorAll("table")) {
    const headers = [...table.querySelectorAll("thead th")];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        for (const body of table.tBodies) {
          const rows = [...body.rows].filter((row) => row.cells.length === headers.length);
          const pairs = rows.map((row) => [key(row.cells[column]), row]);
          pairs.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : sign * compare(a, b)));
          body.append(...pairs.map(([, row]) => row));
        }
      });
    });
    const items = new Set([...document.querySelectorAll("[data-item]")].map((mark) => mark.dataset.item));
    for (const row of table.querySelectorAll("tbody tr")) {
      const name = row.cells[0]?.textContent.replace(/\s*[†‡§]$/, "") ?? "";
      if (!items.has(name)) continue;
      row.dataset.item = name;
      row.addEventListener("pointerenter", () => light(name));
      row.addEventListener("pointerleave", () => light(""));
    }
  }
})();

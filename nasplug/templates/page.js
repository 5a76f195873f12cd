"use strict";
// Everything is there without this script: it sorts tables, opens what is folded before printing, and takes boxes that do not
// scroll out of the order of the Tab key.
const order = new Intl.Collator("en", { numeric: true });
const number = /^[+\-\u2212]?(?:\d[\d,]*)?\.?\d+(?:e[+\-]?\d+)?/i;
const read = (cell) => {
  const text = cell.textContent.trim();
  const found = number.exec(text);
  return { text, value: found ? Number(found[0].replaceAll(",", "").replace("\u2212", "-")) : NaN };
};
const sort = (table, head, place) => {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: read(row.cells[place]) }));
  const full = rows.filter((one) => one.key.text !== "" && one.key.text !== "-");
  const numbers = full.every((one) => !Number.isNaN(one.key.value));
  const sign = down ? -1 : 1;
  full.sort((a, b) => sign * (numbers ? a.key.value - b.key.value : order.compare(a.key.text, b.key.text)));
  const empty = rows.filter((one) => !full.includes(one));
  table.tBodies[0].append(...[...full, ...empty].map((one) => one.row));
};
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, head, place));
    head.append(button);
  });
}
const boxes = document.querySelectorAll(".wide, .picture, pre");
const reach = () => {
  for (const box of boxes) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
reach();
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});

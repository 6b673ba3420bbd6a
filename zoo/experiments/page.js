"use strict";
const number = (cell) => (cell.dataset.value === "" || cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));

function sort(button) {
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const at = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].map((row, i) => ({ row, i, value: number(row.cells[at]), text: row.cells[at].textContent }));
  const numeric = rows.some(({ value }) => !Number.isNaN(value));
  rows.sort((a, b) => {
    if (numeric && Number.isNaN(a.value) !== Number.isNaN(b.value)) return Number.isNaN(a.value) ? 1 : -1; // empty cells last
    const order = numeric ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
    return (down ? -order : order) || a.i - b.i;
  });
  body.append(...rows.map(({ row }) => row));
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean), shown = new Set();
  for (const each of document.querySelectorAll("[data-row]")) {
    const name = each.dataset.row.toLowerCase();
    each.toggleAttribute("hidden", !words.every((word) => name.includes(word)));
    if (!each.hasAttribute("hidden")) shown.add(name);
  }
  document.getElementById("shown").textContent = `${shown.size} rows`;
}

for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => sort(button));
const input = document.getElementById("filter");
input.addEventListener("input", () => filter(input.value));
filter(input.value);

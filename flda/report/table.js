"use strict";
// The gene table: sorted by a click on a heading, filtered as one types, downloaded as CSV. Rows are in the page
// already; a cell's exact value is in data-v.
(() => {
  const table = document.getElementById("genes");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const search = document.getElementById("search");
  const effect = document.getElementById("effect");
  const axis = document.getElementById("axis");
  const selected = document.getElementById("selected");
  const shown = document.getElementById("shown");
  const column = Object.fromEntries(heads.map((head, i) => [head.dataset.name, i]));
  const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;

  const filter = () => {
    const terms = search.value.toLowerCase().split(/[\s,;]+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const gene = value(row, column.gene).toLowerCase();
      row.hidden = Boolean(
        (terms.length && !terms.some((term) => gene.includes(term))) ||
        (effect.value && value(row, column.effect) !== effect.value) ||
        (axis.value && value(row, column.axis) !== axis.value) ||
        (selected.checked && value(row, column.selected) !== "True")
      );
      n += !row.hidden;
    }
    shown.textContent = `${n} of ${rows.length} rows`;
  };

  const sort = (i) => {
    const head = heads[i];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = "number" in head.dataset;
    const sign = up ? 1 : -1;
    rows.sort((a, b) => {
      const x = value(a, i), y = value(b, i);
      if (x === "" || y === "") return (x === "") - (y === ""); // empty ones last, both ways
      return sign * (numeric ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0);
    });
    body.append(...rows);
  };

  const csv = () => {
    const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [heads.map((head) => head.dataset.name)];
    for (const row of rows) if (!row.hidden) lines.push(heads.map((_, i) => value(row, i)));
    return lines.map((line) => line.map(quote).join(",") + "\n").join("");
  };

  const download = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.download = "gene_rankings_shown.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => sort(i)));
  for (const control of [search, effect, axis, selected]) control.addEventListener("input", filter);
  document.getElementById("download").addEventListener("click", download);
  document.getElementById("controls").hidden = false;
  filter();
})();

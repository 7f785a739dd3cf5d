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

  // the genes beyond the table: their rows are made when a search finds them
  const all = JSON.parse(document.getElementById("all-genes").textContent);
  const MOST = 500; // rows that one search may add
  const key = (gene, name) => `${gene}\n${name}`;
  const made = new Set(rows.map((row) => key(value(row, column.gene), value(row, column.axis))));
  const total = all.genes.length * Object.keys(all.axes).length;
  const entry = (name, label, i) => {
    let stored = all.axes[name].values[label];
    if (stored && stored.as !== undefined) stored = all.axes[stored.as].values[label];
    return Array.isArray(stored) ? stored[i] : stored;
  };
  const make = (i, name) => {
    const row = document.createElement("tr");
    row.dataset.extra = "";
    heads.forEach((head) => {
      const label = head.dataset.name;
      const known = { gene: all.genes[i], axis: name, effect: all.axes[name].effect };
      const cell = row.insertCell();
      cell.textContent = known[label] ?? entry(name, label, i) ?? "";
      if ("number" in head.dataset) cell.className = "n";
      cell.hidden = head.hidden;
    });
    rows.push(row);
    body.append(row);
  };
  const find = (terms) => {
    let added = 0;
    all.genes.forEach((gene, i) => {
      if (!terms.some((term) => gene.toLowerCase().includes(term))) return;
      for (const name of Object.keys(all.axes)) {
        if (added >= MOST || made.has(key(gene, name))) continue;
        made.add(key(gene, name));
        make(i, name);
        added += 1;
      }
    });
  };

  const filter = () => {
    const terms = search.value.toLowerCase().split(/[\s,;]+/).filter(Boolean);
    if (terms.length) find(terms);
    let n = 0;
    for (const row of rows) {
      const gene = value(row, column.gene).toLowerCase();
      row.hidden = Boolean(
        (terms.length ? !terms.some((term) => gene.includes(term)) : "extra" in row.dataset) ||
        (effect.value && value(row, column.effect) !== effect.value) ||
        (axis.value && value(row, column.axis) !== axis.value) ||
        (selected.checked && value(row, column.selected) !== "True")
      );
      n += !row.hidden;
    }
    shown.textContent = `${n} of ${total} rows`;
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

  // the means of a gene in every group, beside the pointer
  const panel = document.getElementById("means");
  const tell = (event) => {
    const row = event.target.closest("tr");
    const gene = row && row.parentNode === body ? value(row, column.gene) : null;
    const means = gene === null ? undefined : all.means[gene];
    panel.hidden = means === undefined;
    if (panel.hidden) return;
    const line = (a, b) => {
      const out = document.createElement("div");
      for (const text of [a, b]) out.appendChild(document.createElement("span")).textContent = text;
      return out;
    };
    panel.replaceChildren(line(gene, "mean"), ...all.groups.map((group, i) => line(group, means[i])));
    const box = panel.getBoundingClientRect();
    panel.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    panel.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
  };
  body.addEventListener("pointermove", tell);
  body.addEventListener("click", tell);
  body.addEventListener("pointerleave", () => { panel.hidden = true; });

  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => sort(i)));
  for (const control of [search, effect, axis, selected]) control.addEventListener("input", filter);
  document.getElementById("download").addEventListener("click", download);
  document.getElementById("controls").hidden = false;
  filter();
})();

"""The page in a browser: sorting, filters, download, layout, and names that look like markup."""

import numpy as np
import pandas as pd
import pytest

import flda

import chromium

FACTORS = ["dendrite", "axon"]
NASTY = ['a<b & "c"', "</script><script>document.title='x'</script>", "d'e", "$title ${style}"]

SHOWN = "const shown = () => rows().filter((r) => !r.hidden);"
ROWS = "const rows = () => [...document.querySelectorAll('#genes tbody tr')];" + SHOWN
TYPE = """
    const type = (id, v) => {
      const control = document.getElementById(id); control.value = v; control.dispatchEvent(new Event("input"));
    };"""


def table_of(adata):
    ranking = flda.get.rank_genes_df(adata)
    return ranking[(ranking["rank"] <= 50) | ranking["selected"]]


def test_it_sorts(fitted, page, tmp_path):
    script = (
        ROWS
        + """
        const out = {};
        for (const name of ["score", "gene", "frequency"]) {
          const i = [...document.querySelectorAll("#genes th")].findIndex((h) => h.dataset.name === name);
          const head = document.querySelectorAll("#genes th")[i];
          const values = () => rows().map((r) => r.cells[i].dataset.v ?? r.cells[i].textContent);
          head.querySelector("button").click();
          out[name] = [head.getAttribute("aria-sort"), values()];
          head.querySelector("button").click();
          out[name].push(head.getAttribute("aria-sort"), values());
        }
        return out;
        """
    )
    out, console = chromium.run(page, tmp_path, script)
    assert console == []
    table = table_of(fitted)
    up, ascending, down, descending = out["score"]
    assert (up, down) == ("ascending", "descending")
    np.testing.assert_allclose(np.array(ascending, float), np.sort(table["score"]), rtol=1e-7)
    np.testing.assert_allclose(np.array(descending, float), np.sort(table["score"])[::-1], rtol=1e-7)
    assert out["gene"][1] == sorted(table["gene"])
    assert set(out["frequency"][1]) == {""}


def test_it_filters(fitted, page, tmp_path):
    table = table_of(fitted)
    one, two = table["gene"].iloc[[0, 60]]
    script = (
        ROWS
        + TYPE
        + f"""
        const count = () => [shown().length, document.getElementById("shown").textContent];
        const out = [count()];
        type("search", "{one.upper()}, {two}"); out.push(count());
        type("search", ""); type("axis", "axon_2"); out.push(count());
        const box = document.getElementById("selected"); box.checked = true; box.dispatchEvent(new Event("input"));
        out.push(count());
        type("axis", ""); type("effect", "dendrite:axon"); out.push(count());
        type("search", "nosuchgene"); out.push(count());
        return out;
        """
    )
    out, console = chromium.run(page, tmp_path, script)
    assert console == []
    every = flda.get.rank_genes_df(fitted)
    n, both = len(table), int(every["gene"].isin([one, two]).sum())  # a search finds all genes
    axon = table["axis"] == "axon_2"
    chosen = int((table["selected"] & (table["effect"] == "dendrite:axon")).sum())
    expected = [n, both, int(axon.sum()), int((axon & table["selected"]).sum()), chosen, 0]
    assert out == [[k, f"{k} of {len(every)} rows"] for k in expected]


def test_it_downloads_what_is_shown_as_in_the_rankings(fitted, page, tmp_path):
    script = (
        ROWS
        + TYPE
        + """
        type("axis", "axon_1");
        let link = null;
        HTMLAnchorElement.prototype.click = function () { link = this; };
        let blob = null;
        const make = URL.createObjectURL;
        URL.createObjectURL = (b) => { blob = b; return make.call(URL, b); };
        document.getElementById("download").click();
        return [link.download, link.href.split(":")[0], blob.type, await blob.text()];
        """
    )
    (name, scheme, kind, text), console = chromium.run(page, tmp_path, script)
    assert console == []
    assert (name, scheme, kind) == ("gene_rankings_shown.csv", "blob", "text/csv;charset=utf-8")
    rows = table_of(fitted).query("axis == 'axon_1'")
    assert text == rows.to_csv(index=False, float_format="%.8g", lineterminator="\n")


@pytest.mark.parametrize("width", [None, 390])
def test_it_shows_every_figure_within_the_window(page, tmp_path, width):
    script = """
        const wide = (e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
        return [document.images.length, [...document.images].filter((i) => !i.naturalWidth).length,
                [...document.querySelectorAll("img, h1, h2, p, li, nav a, #controls")].filter(wide).length,
                document.documentElement.scrollWidth <= document.documentElement.clientWidth];
        """
    (n, broken, wide, fits), console = chromium.run(page, tmp_path, script, width=width)
    assert n > 5
    assert (broken, wide, fits, console) == (0, 0, True, [])


def test_it_shows_names_as_text(tmp_path):
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs["axon"] = adata.obs["axon"].cat.rename_categories(NASTY)
    adata.var_names = ["<img src=x onerror=alert(1)>", 'g"1,2', *adata.var_names[2:]]
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=60)
    adata = adata[adata.obs["axon"] != NASTY[1]].copy()
    adata.obs["empty"] = pd.Categorical(np.where(adata.obs["subtype"] == "T5a", NASTY[1], adata.obs["dendrite"]))
    flda.tl.flda(adata, ["empty", "axon"], shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=58)
    page = flda.report.render(adata, title=NASTY[1], figures=[next(flda.report.pictures(adata))])
    script = (
        ROWS
        + TYPE
        + """
        type("search", '<img');
        let blob = null;
        URL.createObjectURL = (b) => { blob = b; return "#"; };
        HTMLAnchorElement.prototype.click = () => {};
        const found = shown()[0].textContent;
        type("search", 'g"1');
        document.getElementById("download").click();
        return [document.title, document.querySelector("h1").textContent, document.scripts.length, found,
                document.querySelector(".answers").textContent, await blob.text(),
                [...document.images].every((i) => i.src.startsWith("data:"))];
        """
    )
    (title, head, n_scripts, row, said, csv, safe), console = chromium.run(page, tmp_path, script)
    assert console == []
    assert (title, head, n_scripts, safe) == (NASTY[1], NASTY[1], 3, True)  # ours, its data, and the harness
    assert "<img src=x onerror=alert(1)>" in row
    assert all(name in said for name in NASTY)
    quoted = table_of(adata).query("gene == 'g\"1,2'")
    assert len(quoted)
    assert csv == quoted.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def test_a_search_finds_genes_beyond_the_table_and_pointing_shows_group_means(fitted, page, tmp_path):
    ranking = flda.get.rank_genes_df(fitted)
    hidden = ranking[(ranking["axis"] == "axon_1") & (ranking["rank"] == 100)].iloc[0]
    script = (
        ROWS
        + TYPE
        + f"""
        type("axis", "axon_1"); type("search", "{hidden["gene"]}");
        const row = [...document.querySelectorAll("#genes tbody tr")].find((r) => !r.hidden);
        const heads = [...document.querySelectorAll("#genes th")].map((h) => h.dataset.name);
        const cells = Object.fromEntries(heads.map((h, i) => [h, row.cells[i].textContent]));
        row.cells[0].dispatchEvent(new MouseEvent("click", {{bubbles: true, clientX: 600, clientY: 300}}));
        const lines = [...document.querySelectorAll("#means div")];
        const means = lines.map((d) => [...d.children].map((c) => c.textContent));
        type("search", "");
        return [cells, means, row.hidden];
        """
    )
    (cells, means, gone), console = chromium.run(page, tmp_path, script)
    assert console == []
    assert gone
    assert (cells["gene"], cells["rank"], cells["kind"]) == (hidden["gene"], "100", hidden["kind"])
    for name in ("pattern", "F", "specificity"):
        assert float(cells[name]) == pytest.approx(hidden[name], rel=5e-3)
    x = pd.Series(fitted[:, hidden["gene"]].X.toarray().ravel())
    expected = x.groupby(fitted.obs["flda_group"].to_numpy(), observed=True).mean()
    assert means[0] == [hidden["gene"], "mean"]
    assert [name for name, _ in means[1:]] == list(expected.index)
    np.testing.assert_allclose([float(v) for _, v in means[1:]], expected, rtol=6e-3, atol=1e-9)

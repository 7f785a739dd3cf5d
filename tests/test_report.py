import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad

import flda
from flda.inference._certificate import certify_together
from flda.report._answers import answers, best_axes

import chromium

FACTORS = ["dendrite", "axon"]
NASTY = ['a<b & "c"', "</script><script>document.title='x'</script>", "d'e", "$title ${style}"]


@pytest.fixture(scope="module")
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=12)
    models = {"all": flda.FLDA(shrinkage=0.5), "selected": flda.SparseFLDA(n_genes=12, shrinkage=0.5)}
    adata.uns["flda"]["certificate"] = certify_together(models, adata.X, adata.obs[FACTORS])
    return adata


@pytest.fixture
def adata(fitted):
    return fitted.copy()


@pytest.fixture(scope="module")
def page(fitted):
    return flda.report.render(fitted)


def told(adata):
    ranking = flda.get.rank_genes_df(adata)
    return {a.question: " ".join((a.headline, *a.details)) for a in answers(adata, ranking)}


class Tags(HTMLParser):
    """Attributes of every tag, and whether every tag that opens is closed in order."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_five_answers_come_from_the_numbers(adata):
    table = adata.uns["flda"]["certificate"].copy()
    table[["snr", "crosstalk"]] = 2.0, 0.1
    table.loc[table["axis"] == "axon_2", ["snr", "crosstalk", "snr_dendrite", "snr_dendrite:axon"]] = 60, 15, 14, 1
    table.loc[table["axis"] == "dendrite:axon_3", ["snr", "crosstalk"]] = 0.5, -0.01
    table.loc[(table["axis"] == "axon_2") & (table["genes"] == "selected"), "snr"] = 30.0
    adata.uns["flda"]["certificate"] = table
    said = told(adata)
    best = said["Which effect separates best?"]
    assert best.startswith("axon: on cells that were not fitted, its effect on the axis axon_2 has 60.0 times")
    assert "30.0 with the selected genes" in best
    assert "Do not lean on dendrite:axon_3: on held-out cells it carries less" in best
    pure = said["How purely, on held-out cells?"]
    assert pure.startswith("80 % of the variance between groups on axon_2 belongs to axon; cross-talk is 15.0 times")
    assert "most of it from dendrite (14.0)" in pure
    assert "selected genes: axon_2 66.7 %" in pure
    genes = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_2'")["gene"].head(10)
    assert said["Which ten genes?"].startswith(f"axon_2: {', '.join(genes)}.")
    assert "Not measured" in said["How stable are the genes?"]
    assert said["What could not be estimated?"].startswith("Every effect that was asked for could be estimated.")


def test_answers_with_everything_run(adata):
    slots = adata.uns["flda"]
    slots["certificate"] = slots["certificate"].assign(sd_snr=0.1, sd_crosstalk=0.1, accuracy=0.93, chance=0.5)
    slots["permutation"] = {
        "table": pd.DataFrame(
            {
                "effect": ["dendrite", "axon"], "statistic": 9.0, "null_mean": 1.0, "null_95": 2.0, "pval": 0.005,
                "pval_adj": [0.005, 0.010], "n_perms": 199, "n_distinct": 199, "unit": "cell", "scheme": "restricted",
            }
        ),
        "null": pd.DataFrame(np.ones((199, 2)), columns=["dendrite", "axon"]),
    }  # fmt: skip
    found = flda.get.rank_genes_df(adata).query("selected")[["axis", "effect", "gene"]]
    found["frequency"] = np.where(found.groupby("axis").cumcount() < 9, 0.95, 0.4)
    found = found.drop(columns="axis").drop_duplicates(["effect", "gene"])
    slots["stability"] = {"genes": found, "params": {"n_halves": 50, "n_genes": 12, "unit": "donor"}}
    said = told(adata)
    assert "balanced accuracy of 0.93 (chance: 0.50)" in said["How purely, on held-out cells?"]
    assert "dendrite p = 0.005, axon p = 0.01 (199 permutations; unit: cell)" in said["Which effect separates best?"]
    stable = said["How stable are the genes?"]
    assert stable.startswith(
        "dendrite_1: 9 of 12 selected genes come back in at least 80 % of the halves (median 95 %)"
    )
    assert "50 halves of the donors." in stable
    slots["variance"] = pd.DataFrame({"effect": ["dendrite", "within"], "df": [1, 392], "share": [0.1, 0.9]})
    flda.tl.path(adata, n_genes=[2, 4])
    page = flda.report.render(adata)
    assert "not run" not in page
    for picture in ("stability", "variance", "path_dendrite_1"):
        assert picture in [p.name for p in flda.report.pictures(adata)]


def test_answers_without_a_certificate_or_selection():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs.loc[adata.obs_names[:3], "axon"] = np.nan
    adata = adata[adata.obs["subtype"] != "T5c"].copy()
    n_missing = int(adata.obs["axon"].isna().sum())
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    said = told(adata)
    assert said["Which effect separates best?"].startswith("Unknown: no certificate was computed.")
    assert "no genes were selected" in said["Which ten genes?"]
    lost = said["What could not be estimated?"]
    assert lost.startswith("dendrite:axon: 1 of 8 groups are empty (T5 x c).")
    assert "1 of 8 groups is empty: T5 × c." in lost
    assert f"{n_missing} of {adata.n_obs} cells lack a label" in lost
    assert best_axes(adata.uns["flda"]) == ["dendrite_1", "axon_1"]
    page = flda.report.render(adata)
    assert "No certificate was computed" in page
    assert "Permutation test: not run" in page


def test_the_page_needs_nothing_else_and_is_small(page, fitted):
    tags = Tags(page)
    sources = [a.get("src") or a.get("href") for t, a in tags.found if t in ("img", "link", "script", "a")]
    assert all(s is None or s.startswith(("data:", "#")) for s in sources)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert len(page) < 3e6
    images = [a for t, a in tags.found if t == "img"]
    assert len(images) == len(list(flda.report.pictures(fitted)))
    assert all(a["alt"] for a in images)
    heads = {a["data-name"]: "hidden" in a for t, a in tags.found if "data-name" in a}
    assert list(heads) == flda.get.RANKING_COLUMNS
    assert [name for name, hidden in heads.items() if hidden] == ["frequency", "pval", "pval_adj"]  # not run
    anchors = {a["href"][1:] for t, a in tags.found if t == "a"}
    assert anchors <= {a.get("id") for _, a in tags.found}


def test_equal_results_give_an_equal_page(page, fitted, tmp_path):
    fitted.write_h5ad(tmp_path / "x.h5ad")
    again = flda.report.render(read_h5ad(tmp_path / "x.h5ad"))
    assert again == page


def test_provenance(adata):
    adata.uns["flda"]["warnings"] = ["X looks like <raw> counts"]
    page = flda.report.render(adata, title="A & B", figures=[])
    assert "<title>A &amp; B</title>" in page
    assert "X looks like &lt;raw&gt; counts" in page
    for text in ("400 × 120", "shrinkage", flda.__version__, "1265079", "arXiv:2010.02171"):
        assert text in page
    first = re.search(r"SHA-256</th><td class=wrap>([0-9a-f]{64})", page)[1]
    adata.X[3, 4] += 1
    assert first not in flda.report.render(adata, figures=[])


def test_write_is_whole_or_nothing(adata, tmp_path, monkeypatch):
    flda.report.write(adata, tmp_path / "r.html", figures=[])
    before = (tmp_path / "r.html").read_text()
    monkeypatch.setattr("flda.report._page._cite", lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        flda.report.write(adata, tmp_path / "r.html", figures=[])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.html", before)]
    with pytest.raises(ValueError, match=r"run flda\.tl\.flda first"):
        flda.report.render(flda.datasets.t4t5_simulated(n_obs=100, n_vars=50))


SHOWN = "const shown = () => rows().filter((r) => !r.hidden);"
ROWS = "const rows = () => [...document.querySelectorAll('#genes tbody tr')];" + SHOWN
TYPE = """
    const type = (id, v) => {
      const control = document.getElementById(id); control.value = v; control.dispatchEvent(new Event("input"));
    };"""


def table_of(adata):
    ranking = flda.get.rank_genes_df(adata)
    return ranking[(ranking["rank"] <= 50) | ranking["selected"]]


def test_browser_sorts(fitted, page, tmp_path):
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


def test_browser_filters(fitted, page, tmp_path):
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
    n, both = len(table), int(table["gene"].isin([one, two]).sum())
    axon = table["axis"] == "axon_2"
    chosen = int((table["selected"] & (table["effect"] == "dendrite:axon")).sum())
    expected = [n, both, int(axon.sum()), int((axon & table["selected"]).sum()), chosen, 0]
    assert out == [[k, f"{k} of {n} rows"] for k in expected]


def test_browser_downloads_what_is_shown_as_in_the_rankings(fitted, page, tmp_path):
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


@pytest.mark.parametrize("window", ["1200,900", "500,900"])
def test_browser_shows_every_figure_within_the_window(page, tmp_path, window):
    script = """
        const wide = (e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
        return [document.images.length, [...document.images].filter((i) => !i.naturalWidth).length,
                [...document.querySelectorAll("img, h1, h2, p, #controls")].filter(wide).length,
                document.documentElement.scrollWidth <= document.documentElement.clientWidth];
        """
    (n, broken, wide, fits), console = chromium.run(page, tmp_path, script, window=window)
    assert n > 5
    assert (broken, wide, fits, console) == (0, 0, True, [])


def test_browser_shows_names_as_text(tmp_path):
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs["axon"] = adata.obs["axon"].cat.rename_categories(NASTY)
    adata.var_names = ["<img src=x onerror=alert(1)>", 'g"1,2', *adata.var_names[2:]]
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=60)
    adata = adata[adata.obs["axon"] != NASTY[1]].copy()
    adata.obs["empty"] = pd.Categorical(np.where(adata.obs["subtype"] == "T5a", NASTY[1], adata.obs["dendrite"]))
    flda.tl.flda(adata, ["empty", "axon"], shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=58)
    page = flda.report.render(adata, title=NASTY[1])
    Tags(page)
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
    assert (title, head, n_scripts, safe) == (NASTY[1], NASTY[1], 2, True)  # ours and the harness
    assert "<img src=x onerror=alert(1)>" in row
    assert all(name in said for name in NASTY)
    quoted = table_of(adata).query("gene == 'g\"1,2'")
    assert len(quoted)
    assert csv == quoted.to_csv(index=False, float_format="%.8g", lineterminator="\n")

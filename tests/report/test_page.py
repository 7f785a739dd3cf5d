import re
from html.parser import HTMLParser

import pytest
from anndata import read_h5ad

import flda
from flda._adata.results import write


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


def test_the_page_needs_nothing_else_and_is_small(page, fitted):
    tags = Tags(page)
    sources = [a.get("src") or a.get("href") for t, a in tags.found if t in ("img", "link", "script", "a")]
    assert all(s is None or s.startswith(("data:", "#")) for s in sources)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert len(page) < 3e6
    images = [a for t, a in tags.found if t == "img"]
    assert len(images) == len(list(flda.report._figures._plan(fitted, "flda")))
    assert all(a["alt"] for a in images)
    heads = {a["data-name"]: "hidden" in a for t, a in tags.found if "data-name" in a}
    assert list(heads) == [*flda.get.RANKING_COLUMNS, "significant"]
    assert [name for name, hidden in heads.items() if hidden] == ["frequency", "pval", "pval_adj"]  # not run
    anchors = {a["href"][1:] for t, a in tags.found if t == "a"}
    assert anchors <= {a.get("id") for _, a in tags.found}


def test_equal_results_give_an_equal_page(fitted, tmp_path):
    fitted.write_h5ad(tmp_path / "x.h5ad")
    again = flda.report.render(read_h5ad(tmp_path / "x.h5ad"), figures=[])
    assert again == flda.report.render(fitted, figures=[])


def test_provenance(adata):
    write(adata, "flda", warned={"flda": ["X looks like <raw> counts"]})
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
    monkeypatch.setattr("flda.report._page._cite", lambda record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        flda.report.write(adata, tmp_path / "r.html", figures=[])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.html", before)]
    with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
        flda.report.render(flda.datasets.t4t5_simulated(n_obs=100, n_vars=50))


def test_warnings_of_every_step_are_shown(adata):
    assert "There were no warnings" in flda.report.render(adata, figures=[])
    write(adata, "flda", warned={"flda": ["one gene is <odd>"], "certify": ["two folds"]})
    text = flda.report.render(adata, figures=[])
    assert "There were no warnings" not in text
    assert text.index("one gene is &lt;odd&gt;") < text.index("two folds")


def test_warnings_are_collected_whoever_calls(adata):
    assert "There were no warnings" in flda.report.render(adata, figures=[])
    adata.var["highly_variable"] = adata.var_names.isin(adata.var_names[:50])
    with pytest.warns(flda.FLDAWarning, match="highly_variable"):
        flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    page = flda.report.render(adata, figures=[])
    assert "There were no warnings" not in page
    assert "and not only the 50 that" in page
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5, mask_var="highly_variable")
    assert "There were no warnings" in flda.report.render(adata, figures=[])  # those of the fit that was replaced


def with_labels(adata, labels):
    adata.obs["axon"] = labels
    return adata


def without_labels(adata):
    del adata.obs["axon"]
    return adata


def doubled(adata):
    adata.X = adata.X * 2
    return adata


CHANGES = {
    "cells": lambda a: a[50:].copy(),
    "genes": lambda a: a[:, 5:].copy(),
    "labels": lambda a: with_labels(a, a.obs["axon"].to_numpy()[::-1]),
    "values": doubled,
    "merged": lambda a: with_labels(a, a.obs["axon"].astype(str).replace("b", "a")),
    "column": without_labels,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_adata_is_announced_and_its_figures_are_left_out(adata, change):
    changed = CHANGES[change](adata)
    picture = flda.report._figures.Picture("x", "scores", "these are cells", b"0" * 24)
    page = flda.report.render(changed, figures=[picture])
    assert 'class="changed"' in page
    assert "these are cells" not in page


def test_what_is_no_change_is_not_announced(adata):
    same = adata[::-1, ::-1].copy()
    assert 'class="changed"' not in flda.report.render(same, figures=[])


def test_the_parameters_are_those_of_the_selection_in_the_record(adata):
    flda.tl.rank_genes(adata, n_genes=3, mode="marker", key_added="second")
    text = flda.report.render(adata, figures=[])
    section = text[text.index("Parameters of the selection") :]
    values = dict(re.findall(r"<th>(\w+)</th><td class=wrap>(.*?)</td>", section[: section.index("</table>")]))
    assert values == {"key_added": "second", "mode": "marker", "n_genes": "3"}
    chosen = flda.get.rank_genes_df(adata).query("selected and axis == 'dendrite_1'")["gene"]
    assert len(chosen) == 3
    assert ", ".join(chosen) in text

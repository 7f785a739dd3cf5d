"""Certificate, path and stability, judged by what is drawn."""

import numpy as np
import pandas as pd
import pytest
from labels import texts

import flda
from flda._adata.results import write

AXES = ["dendrite_1", "axon_1", "axon_2", "axon_3", "dendrite:axon_1", "dendrite:axon_2", "dendrite:axon_3"]


@pytest.mark.parametrize("genes", ["all", "selected"])
def test_certificate_is_the_table_with_the_own_effect_boxed(adata, genes):
    ax = flda.pl.certificate(adata, genes=genes)
    table = flda.get.certificate_df(adata).query("genes == @genes")
    effects = ["dendrite", "axon", "dendrite:axon"]
    assert texts(ax.get_yticklabels()) == AXES
    assert texts(ax.get_xticklabels()) == effects
    written = np.array([float(t) for t in texts(ax.texts)]).reshape(7, 3)
    np.testing.assert_allclose(written, table[[f"snr_{e}" for e in effects]], atol=0.5, rtol=0.05)
    boxes = {(p.get_y(), p.get_x()) for p in ax.patches}
    assert boxes == {(i, effects.index(e)) for i, e in enumerate(table["effect"])}


def test_certificate_marks_what_could_not_be_estimated(adata):
    table = flda.get.certificate_df(adata)
    table.loc[1, "snr_dendrite"] = np.nan
    table["sd_snr"] = 0.1  # further columns do no harm
    write(adata, "flda", certificate=table)
    ax = flda.pl.certificate(adata)
    assert [p.get_xy() for p in ax.patches if p.get_hatch()] == [(0, 1)]
    assert len(ax.texts) == 20
    with pytest.raises(ValueError, match=r"'few'.*'all'"):
        flda.pl.certificate(adata, genes="few")


def test_path_draws_what_the_tool_found(adata):
    flda.tl.path(adata, n_genes=[8, 3])
    ax = flda.pl.path(adata, "axon_2")
    table = flda.get.path_df(adata).query("axis == 'axon_2'")
    for line, column in zip(ax.lines, ["eigenvalue", "snr", "crosstalk"], strict=False):
        np.testing.assert_allclose(line.get_xydata(), table[["n_genes", column]])
    assert texts(ax.get_xticklabels()) == ["3", "8"]


def test_stability_of_all_axes_and_of_one(adata):
    selected = flda.get.rank_genes_df(adata).query("selected")[["axis", "effect", "gene"]]
    found = selected[["effect", "gene"]].drop_duplicates()
    found["frequency"] = np.linspace(0.1, 1, len(found))
    rare = pd.DataFrame({"effect": ["axon"], "gene": ["none of the selected"], "frequency": [0.02]})
    found = pd.concat([found.iloc[1:], rare])
    write(adata, "flda", stability={"genes": found, "params": {"n_resamples": 10}})
    ax = flda.pl.stability(adata)
    assert texts(ax.get_yticklabels()) == AXES
    drawn = [np.sort(c.get_offsets()[:, 0]) for c in ax.collections]
    lookup = found.set_index(["effect", "gene"])["frequency"]
    for dots, (_, part) in zip(drawn, selected.groupby("axis", sort=False), strict=True):
        expected = [lookup.get((e, g), 0.0) for e, g in zip(part["effect"], part["gene"], strict=True)]
        np.testing.assert_allclose(dots, np.sort(expected))
    ax = flda.pl.stability(adata, "axon_1")
    table = found.query("effect == 'axon'").sort_values("frequency", ascending=False)
    assert texts(ax.get_yticklabels()) == table["gene"].tolist()
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["frequency"])
    own = set(selected.query("axis == 'axon_1'")["gene"])
    shades = {gene: bar.get_facecolor() for gene, bar in zip(table["gene"], ax.patches, strict=True)}
    assert len({shades[g] for g in own & set(shades)}) == 1
    assert shades["none of the selected"] not in {shades[g] for g in own & set(shades)}
    of_selected, of_others = (handle.get_facecolor() for handle in ax.get_legend().get_patches())
    assert of_others == shades["none of the selected"]
    assert {of_selected} == {shades[g] for g in own & set(shades)}

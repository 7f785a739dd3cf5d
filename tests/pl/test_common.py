"""What holds for every figure."""

import matplotlib.pyplot as plt
import pytest
from anndata import experimental, read_h5ad

import flda
from flda.pl._common import number

FACTORS = ["dendrite", "axon"]


FIGURES = ["design", "variance", "scores", "loadings", "genes", "certificate", "path", "stability", "connectivity"]
CALLS = {
    "certificate": "flda.tl.certify",
    "path": "flda.tl.path",
    "stability": "flda.tl.stability",
    "connectivity": "flda.circuits.link_axes",
}


@pytest.fixture(scope="module")
def bare():
    return flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_asks_for_a_fit_first(bare, name):
    with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
        getattr(flda.pl, name)(bare)


@pytest.mark.parametrize(("name", "call"), CALLS.items())
def test_what_was_not_run_names_the_call_to_run(bare, name, call):
    adata = bare.copy()
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    with pytest.raises(ValueError, match=call.replace(".", r"\.")):
        getattr(flda.pl, name)(adata)


@pytest.mark.parametrize("figure", [flda.pl.scores, flda.pl.loadings, flda.pl.genes])
def test_unknown_axes_are_named(adata, figure):
    with pytest.raises(ValueError, match=r"'leg_1'.*'axon_1'"):
        figure(adata, "leg_1")


@pytest.mark.parametrize("backed", [None, "r"])
def test_every_figure_draws_on_the_axes_given_and_from_a_file(adata, tmp_path, backed):
    adata.write_h5ad(tmp_path / "x.h5ad")
    back = read_h5ad(tmp_path / "x.h5ad", backed=backed)
    for name in ("design", "scores", "loadings", "genes", "certificate", "variance"):
        ax = plt.figure().add_subplot()
        assert getattr(flda.pl, name)(back, ax=ax) is ax
        plt.close("all")


def test_a_lazily_read_file_can_be_drawn(adata, tmp_path):
    pytest.importorskip("xarray", reason="xarray is an extra")
    adata.write_h5ad(tmp_path / "x.h5ad")
    lazy = experimental.read_lazy(tmp_path / "x.h5ad")
    flda.tl.flda(lazy, FACTORS, shrinkage=0.5, key_added="again")
    for name in ("design", "scores", "loadings", "genes", "variance"):
        ax = getattr(flda.pl, name)(lazy, key="again")
        assert ax.has_data()


@pytest.mark.parametrize(
    ("value", "text"),
    [(123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (-0.001, "0.00"), (-0.01, "-0.01"), (float("nan"), "")],
)
def test_numbers_have_three_digits_and_no_negative_zero(value, text):
    assert number(value) == text

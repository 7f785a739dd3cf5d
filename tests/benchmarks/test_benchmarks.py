"""The main pieces of every benchmark run at a small size."""

import defaults
import inference
import numpy as np
import optimality
import pandas as pd
import power
import pytest
import rare_groups
import scale
import sparse_axes
import speed

from flda import FLDA, datasets

from problems import PROBLEMS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(scope="module")
def cells():
    return datasets.t4t5_simulated(400, 120, random_state=3)


@pytest.fixture(autouse=True)
def small(monkeypatch, cells):
    """A problem of 400 cells, in two forms, and the smallest sizes that the benchmarks allow."""
    y = cells.obs[["dendrite", "axon"]].reset_index(drop=True)
    monkeypatch.setitem(PROBLEMS, "small", lambda: (cells.X, y, "all", None))
    monkeypatch.setattr(sparse_axes, "SIZES", (5, 10))
    monkeypatch.setattr(power, "SIZES", (5, 10))


def test_sparse_axes(capsys):
    rows = sparse_axes.compare(*sparse_axes.halved("small", 0), "small", 0)
    table = sparse_axes.report(pd.DataFrame(rows))
    assert set(table["method"]) == set(sparse_axes.METHODS)
    assert sparse_axes.DEFAULT in capsys.readouterr().out


def test_optimality(monkeypatch):
    monkeypatch.setattr(optimality, "SIZES", (3,))
    table, times = optimality.gaps("small", [0.01, 0.1])
    assert (table["0.1"] >= 0).all()
    assert (table["0.1"] <= table["0.01"] + 1e-9).all()
    assert len(times) == 2


def test_defaults():
    """Every option is one that FLDA has, and differs from its default."""
    own = FLDA().get_params()
    for name, options in defaults.OPTIONS.items():
        assert options.keys() <= own.keys()
        FLDA(**options)
        assert any(own[key] != value for key, value in options.items()), name
    assert list(defaults.variants()) == ["FLDA", *defaults.OPTIONS]


@pytest.mark.parametrize("complete", [True, False])
def test_rare_groups(monkeypatch, cells, complete):
    adata = cells if complete else cells[cells.obs["subtype"] != "T5d"].copy()
    monkeypatch.setitem(rare_groups.DATA, "small", lambda _: (adata, ["dendrite", "axon"], ("T4", "b")))
    rows = pd.DataFrame(rare_groups.one("small", 0, [3]))
    assert len(rows) == len(rare_groups.arms())
    assert rows["log_snr"].notna().all()
    labels = {rare_groups.label(row) for row in rows.itertuples()}
    assert {"none", "factorial", "simulate, variation 2", "thin"} <= labels


def test_power(monkeypatch):
    monkeypatch.setattr(power, "N_GENES", 4)
    truth, options = power.t4t5()
    table = power.realised(truth, options["donor"], 2, 2)
    assert set(table["n_cells"]) == {5, 10}
    observed = power.plug_in(truth, np.random.default_rng(0)).group_means(truth.design.group_levels())
    np.testing.assert_allclose(np.log(observed), truth.means._data[0], atol=1e-8)


def test_inference_of_genes():
    assert len(inference.genes(1, n_sims=1, n_resamples=9)) > 0


def test_inference_of_certificates(monkeypatch):
    monkeypatch.setattr(inference, "t4t5_simulated", lambda *_, **options: datasets.t4t5_simulated(1900, 80, **options))
    table = inference.certificate(1, n_sims=1)
    assert {"all", "selected"} == set(table["genes"])


def test_inference_of_small_certificates():
    table = inference.small_certificates(1, n_sims=2)
    assert set(table["scheme"]) == {"folds", "pooled"}
    many = inference.many_genes(3, 1.5, 0)
    assert many["scheme"] == "pooled"
    assert 0 < many["snr / true"] < 2


def test_inference_of_variances():
    table = inference.variances(1, n_sims=2000)
    np.testing.assert_allclose(table["corrected"], 0, atol=0.05)


def test_inference_of_flips(monkeypatch, cells):
    monkeypatch.setattr(inference, "t4t5_simulated", lambda *_: cells)
    assert len(inference.flips(1, n_resamples=9)) == 1


def test_inference_of_stability(monkeypatch):
    selection = inference.stability_selection
    monkeypatch.setattr(
        inference,
        "stability_selection",
        lambda *args, n_resamples, **options: selection(*args, n_resamples=2, **options),
    )
    assert len(inference.stability(1, n_sims=1)) == 3


@pytest.mark.parametrize("name", sorted(set(speed.MEASURES) - {"whole_run"}))
def test_speed(name, cells):
    X = cells.X.toarray().astype(float) if name in ("sklearn_lda", "one_factor") else cells.X
    speed.MEASURES[name](X, cells.obs[["dendrite", "axon"]])()


@pytest.mark.parametrize("name", list(scale.MEASURES))
def test_scale(name, tmp_path):
    path = scale.store(tmp_path / "data.h5ad", 400, 100)
    if name == "scanpy_pca":
        pytest.importorskip("scanpy", reason="needs the extra scanpy")
    _, work = scale.MEASURES[name](path)
    work()

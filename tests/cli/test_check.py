"""What ``flda check`` says of values, depth, donors and time."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda
from flda.cli import _advice, main

FACTORS = ["--factors", "dendrite", "axon"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda X: np.log1p(X), "log-normalised"),
        (lambda X: X, "raw counts"),
        (lambda X: X * 97.3, "not logarithmic"),
        (lambda X: (X - X.mean(axis=0)) / X.std(axis=0), "scaled"),
        (lambda X: X - 3.0, "negative"),
        (lambda X: X * 0, "zeros"),
        (lambda X: np.where(X.max() == X, np.nan, X), "NaN"),
    ],
)
def test_values(change, said):
    X = np.random.default_rng(0).poisson(2.0, (50, 8)).astype(float)
    (line,) = _advice.values(sp.csr_matrix(change(X)), "layers['x']")
    assert said in line
    assert "layers['x']" in line


def test_donors():
    obs = pd.DataFrame({"donor_id": list("aabbcc"), "sex": list("xxxxyy"), "arm": list("ststst")})
    assert "donor_id" in next(_advice.donors(obs, ["sex"], None))
    assert list(_advice.donors(obs.drop(columns="donor_id"), ["sex"], None)) == []
    total, sex, arm = _advice.donors(obs, ["sex", "arm"], "donor_id")
    assert "3 in donor_id" in total
    assert "between donors" in sex
    assert "1 to 2" in sex
    assert "3 donors of every level" in sex
    assert "within donors" in arm


def test_check_looks_at_everything(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_advice, "PROBES", (60, 90))
    for step in ("flda", "rank_genes"):
        monkeypatch.setattr(flda.tl, step, lambda *_, **__: None)
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=50)
    deep = (adata.obs["dendrite"] == "T5").to_numpy()
    adata.obs["total_counts"] = np.where(deep, 3000.0, 1000.0)
    adata.write_h5ad(tmp_path / "x.h5ad")
    assert main(["check", str(tmp_path / "x.h5ad"), *FACTORS, "--donor", "donor"]) == 0
    out = capsys.readouterr().out
    assert "log-normalised" in out
    assert "dendrite: 3.00 times between T5 and T4" in out
    assert "covariate" in out
    assert "4 in donor" in out
    assert "60 cells" in out
    assert "90 cells" in out
    assert "6 fits" in out


@pytest.mark.parametrize("clock", ["perf_counter", "process_time"])
@pytest.mark.parametrize(("growth", "expected"), [(1.0, 6 * 20.0), (0.0, 6 * 2.0), (3.0, 6 * 20.0 * 4)])
def test_time_is_extrapolated(monkeypatch, growth, expected, clock):
    """The smaller of the times on the clock and of the processors counts."""
    times = iter([0.0, 2.0 / 2**growth, 0.0, 2.0] if growth < 3 else [0.0, 1.0, 0.0, 8.0])
    slower = iter([0.0, 1e3, 0.0, 1e3])
    other = "process_time" if clock == "perf_counter" else "perf_counter"
    monkeypatch.setattr(_advice.time, clock, lambda: next(times))
    monkeypatch.setattr(_advice.time, other, lambda: next(slower))
    monkeypatch.setattr(_advice.tl, "rank_genes", lambda *_, **__: None)
    adata = flda.datasets.t4t5_simulated(n_obs=3000, n_vars=50)
    seconds, how = _advice.seconds(adata, np.arange(3000) % 8, lambda part: None, 5)
    assert seconds == pytest.approx(expected)
    assert "3,000 cells" in how

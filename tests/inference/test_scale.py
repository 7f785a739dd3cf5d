"""Interactions that only the curvature of log1p makes are told from those that multiplying effects cannot explain."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda import FLDA
from flda.inference import scale_check


def simulated(kind, seed=0, n=100, p=60, n_donors=0):
    """Negative binomial counts, 2 x 2 groups; ten genes have effects of ``kind``, and depth varies between cells."""
    rng = np.random.default_rng([seed, 5])
    codes = np.repeat([*np.ndindex(2, 2)], n, axis=0)
    a, b = codes.T
    log_mu = np.log(rng.gamma(2.0, 0.25, size=p) + 0.05)[None] + np.zeros((4 * n, 1))
    if kind == "multiplicative":  # each factor multiplies the counts of the same genes by five
        log_mu[:, :10] = np.log(0.15) + np.log(5) * (a + b)[:, None]
    elif kind == "one group":
        log_mu[:, :10] = np.log(np.where((a & b)[:, None], 3.0, 0.1))
    donors = None
    if n_donors:
        donors = rng.integers(n_donors, size=4 * n)
        log_mu = log_mu + rng.normal(0, 0.2, size=(n_donors, p))[donors]
    depth = rng.lognormal(0, 0.3, size=4 * n)
    mu = np.exp(log_mu) * depth[:, None]
    counts = rng.poisson(rng.gamma(5.0, mu / 5.0)).astype(float)
    X = np.log1p(counts / depth[:, None])
    return X, pd.DataFrame(codes.astype(str), columns=["A", "B"]), counts, depth, donors


@pytest.mark.parametrize("n_donors", [0, 12])
def test_multiplying_effects_are_curvature_and_a_gene_of_one_group_is_not(n_donors):
    for kind, curved in {"multiplicative": True, "one group": False}.items():
        X, y, counts, depth, donors = simulated(kind, n_donors=n_donors)
        found = scale_check(FLDA(), X, y, donors, counts=counts, depth=depth)
        row = found.table.iloc[0]
        assert row["n_genes"] >= 8  # found on log1p, whatever makes it
        assert (row["share_kept"] < 0.5) == curved
        assert ("curvature" in row["reading"]) == curved
        assert (row["pval_log_rate"] > 0.05) == curved
        assert found.genes["kept"].sum() == row["n_kept"]
        assert len(found.genes) == row["n_genes"]


def test_the_statistic_is_that_of_log_mean_rates():
    """Squares of the contrast of log mean rates over its noise by the delta method."""
    from flda._design.make import make_design
    from flda._error.log_rates import LogRateFlips

    _, y, counts, depth, _ = simulated("one group", n=60)
    rates = counts / depth[:, None]
    design = make_design(y)
    effect = next(e for e in design.effects if len(e) == 2)
    groups = [rates[design.codes == c] for c in range(4)]
    m, squares = (np.stack([f(g) for g in groups]) for f in (lambda g: g.mean(axis=0), lambda g: (g**2).sum(axis=0)))
    inverse = np.array([np.mean(1 / depth[design.codes == c]) for c in range(4)])
    few = slice(8)  # fewer genes than a prior of variances needs
    engine = LogRateFlips(sp.csr_array(rates[:, few]), design, [effect], m[:, few], squares[:, few], inverse, 0)
    rate = m + 0.5 * inverse.min() / 60
    variances = np.maximum(np.stack([g.var(axis=0, ddof=1) for g in groups]), inverse[:, None] * rate) / 60 / rate**2
    contrast = np.log(rate[0]) - np.log(rate[1]) - np.log(rate[2]) + np.log(rate[3])
    np.testing.assert_allclose(engine.observed()[effect], (contrast**2 / variances.sum(axis=0))[few])
    engine = LogRateFlips(sp.csr_array(rates), design, [effect], m, squares, inverse, 0)
    # flips have the level that they should: their statistics look like chi-squared with one degree of freedom
    null = np.concatenate([block[effect] for block in engine.flipped(100)])
    assert np.mean(null > 3.84) == pytest.approx(0.05, abs=0.02)


def test_a_marker_with_an_effect_where_it_is_expressed_is_no_interaction():
    """One level never expresses the gene, so nobody can say that the other factor acts differently there."""
    X, y, counts, _, _ = simulated("none")
    rng = np.random.default_rng(0)
    on = (y["A"] == "1").to_numpy()
    for j in range(5):
        counts[:, j] = np.where(on, rng.poisson(np.where(y["B"] == "1", 20.0, 10.0)), 0)
    X[:, :5] = np.log1p(counts[:, :5])
    found = scale_check(FLDA(), X, y, counts=counts, depth=np.ones(len(y)))
    assert set(range(5)) <= set(found.genes["gene"])
    assert not found.genes.set_index("gene").loc[list(range(5)), "kept"].any()


def test_bad_requests_are_refused():
    X, y, counts, _, _ = simulated("none", n=10)
    with pytest.raises(ValueError, match="no interaction"):
        scale_check(FLDA(interactions=None), X, y, counts=counts)
    with pytest.raises(ValueError, match="raw counts"):
        scale_check(FLDA(), X, y, counts=X)
    with pytest.raises(ValueError, match="shape"):
        scale_check(FLDA(), X, y, counts=counts[:, :5])
    counts[3] = 0
    with pytest.raises(ValueError, match="without counts"):
        scale_check(FLDA(), X, y, counts=counts)


def test_shares_over_many_data_sets():
    """40 data sets each: how often the interaction is called curvature, and the level on log rates."""
    called = {}
    for kind in ("multiplicative", "one group"):
        rows = []
        for seed in range(40):
            X, y, counts, depth, _ = simulated(kind, seed)
            rows.append(scale_check(FLDA(), X, y, counts=counts, depth=depth, n_resamples=99).table.iloc[0])
        called[kind] = pd.DataFrame(rows)
    curved, real = called["multiplicative"], called["one group"]
    assert (curved["pval"] <= 0.05).mean() > 0.9
    assert (curved["pval_log_rate"] <= 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 40)
    assert (curved["share_kept"] < 0.5).mean() >= 0.95
    assert (real["share_kept"] >= 0.5).mean() >= 0.95

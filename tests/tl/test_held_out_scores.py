import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda._design.make import make_design
from flda._design.splits import folds
from flda.metrics import effect_snr

FACTORS = ["dendrite", "axon"]


def test_each_cell_is_scored_without_it_on_matched_axes():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    assert flda.tl.held_out_scores(adata) is None
    scores = adata.obsm["X_flda_held_out"]
    assert np.isfinite(scores).all()
    # a fold by hand: the axes of an effect span the same space, turned towards those of the fit
    split = next(iter(folds(make_design(adata.obs[FACTORS]), None, 0, 5)))
    train, test = split.train, split.test
    model = flda.FLDA(shrinkage=0.5).fit(adata.X[train], adata.obs[FACTORS].iloc[train])
    by_hand = model.transform(adata.X[test])
    for columns in ([0], [1, 2, 3], [4, 5, 6]):
        solution, rest, *_ = np.linalg.lstsq(by_hand[:, columns], scores[np.ix_(test, columns)])
        np.testing.assert_allclose(rest, 0, atol=1e-12)
        np.testing.assert_allclose(solution.T @ solution, np.eye(len(columns)), atol=1e-8)
    for j in range(7):
        assert np.corrcoef(scores[:, j], adata.obsm["X_flda"][:, j])[0, 1] > 0.6


def test_noise_does_not_separate_although_fitted_cells_do():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"a": rng.choice(["x", "y"], 80), "b": rng.choice(["u", "v"], 80)})
    adata = ad.AnnData(
        rng.normal(size=(80, 600)).astype(np.float32), obs.set_index(pd.Index([str(i) for i in range(80)]))
    )
    flda.tl.flda(adata, ["a", "b"], interactions=None, shrinkage=0.1)
    flda.tl.held_out_scores(adata)
    design = make_design(adata.obs[["a", "b"]], interactions=None)
    fitted, held_out = (effect_snr(adata.obsm[k], design)["a"][0] for k in ("X_flda", "X_flda_held_out"))
    assert fitted > 20
    assert abs(held_out) < 0.5


def test_donors_are_held_out_whole_and_unlabelled_cells_have_no_score():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs.loc[adata.obs_names[:7], "axon"] = np.nan
    flda.tl.flda(adata, FACTORS, donor="donor", shrinkage=0.5)
    out = flda.tl.held_out_scores(adata, copy=True)
    assert "X_flda_held_out" not in adata.obsm
    scores = out.obsm["X_flda_held_out"]
    assert np.isnan(scores[:7]).all()
    assert np.isfinite(scores[7:]).all()
    kept = adata[7:]
    train = (kept.obs["donor"] != "donor2").to_numpy()
    model = flda.FLDA(shrinkage=0.5).fit(kept.X[train], kept.obs.loc[train, FACTORS])
    by_hand = model.transform(kept.X[~train])[:, 0]
    assert abs(np.corrcoef(by_hand, scores[7:][~train, 0])[0, 1]) == pytest.approx(1)


def test_no_fold_is_an_error():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs["single"] = adata.obs["dendrite"].map({"T4": "d1", "T5": "d2"})
    flda.tl.flda(adata, FACTORS, donor="single", shrinkage=0.5)
    with pytest.raises(ValueError, match="5 folds"):
        flda.tl.held_out_scores(adata)
    assert "X_flda_held_out" not in adata.obsm

"""How far simulated cells can be told from real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .._adata import read
from .._data import arrays
from ..datasets import TARGET_SUM
from ._fit import COUNTS, read_counts

N_COMPONENTS, N_TREES, N_FOLDS = 30, 200, 5
N_CORRELATED = 200  # genes whose correlations are compared, those with the largest means
MIN_CELLS = 5  # of either kind in a group whose AUC is given


@dataclass(frozen=True)
class Fidelity:
    """Result of :func:`fidelity`.

    Attributes
    ----------
    summary
        A row per measure: ``measure, value, ideal``.
    groups
        A row per group: levels, ``n_real, n_simulated, library_real, library_simulated`` (median total counts),
        ``zeros_real, zeros_simulated`` (share of zero counts), ``auc`` and ``auc_linear``.
    genes
        A row per gene: ``gene, mean_real, mean_simulated, variance_real, variance_simulated, zeros_real,
        zeros_simulated``; means and zeros over cells, variances within groups of counts over the library size.
    correlations
        A row per pair of the 200 genes with the largest means: ``real, simulated`` within-group correlation of
        log-normalised expression.
    library
        A row per cell: ``log10_counts, kind``.
    """

    summary: pd.DataFrame
    groups: pd.DataFrame
    genes: pd.DataFrame
    correlations: pd.DataFrame
    library: pd.DataFrame


def fidelity(
    adata: AnnData,
    simulated: AnnData,
    factors: str | Sequence[str],
    *,
    layer: str | None = COUNTS,
    random_state: int = 0,
) -> Fidelity:
    """Compare simulated with real cells: means, variances, zeros, correlations, library sizes, and a classifier.

    Two classifiers learn to tell simulated from real cells, from 30 principal components of log-normalised expression
    with the logarithms of total counts and of detected genes: a random forest (``auc``) and a logistic regression
    (``auc_linear``). Five folds; the area under the curve of a group is that of its cells while they were held out.
    0.5 is a coin. Groups with fewer than five cells of either kind have none.

    Parameters
    ----------
    adata
        Real cells. Cells that the model was not fitted on make the harder comparison.
    simulated
        Cells from :meth:`CountModel.sample`, of the same genes.
    factors
        Columns of both ``obs`` that make the groups.
    layer
        Layer of the counts in both; None for ``X``.
    random_state
        Seed of folds and trees.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(400, 100)
    >>> simulated = flda.simulate.fit_counts(adata, ["dendrite", "axon"]).sample()
    >>> found = flda.simulate.fidelity(adata, simulated, ["dendrite", "axon"])
    >>> bool(found.groups["auc"].median() < 0.8)
    True
    """
    factors = [factors] if isinstance(factors, str) else list(factors)
    if list(adata.var_names) != list(simulated.var_names):
        raise ValueError("the genes of the simulated cells are not those of the real ones, in the same order.")
    parts = [(read.labels(a, factors).astype(str), read_counts(a, layer)) for a in (adata, simulated)]
    keep = [t.notna().all(axis=1).to_numpy() for t, _ in parts]
    labels = pd.concat([t[k] for (t, _), k in zip(parts, keep, strict=True)], ignore_index=True)
    Y = sp.vstack([y[k] for (_, y), k in zip(parts, keep, strict=True)], format="csr")
    real = np.arange(len(labels)) < keep[0].sum()
    codes = labels.groupby(factors, sort=True).ngroup().to_numpy()
    total = np.asarray(Y.sum(axis=1)).ravel()
    detected = np.diff(Y.indptr)
    X = sp.csr_matrix(sp.diags(TARGET_SUM / total) @ Y)
    X.data = np.log1p(X.data)

    genes = _genes(Y, total, codes, real).assign(gene=adata.var_names)
    varies = genes[["variance_real", "variance_simulated"]].min(axis=1).to_numpy() > 0
    top = np.argsort(np.where(varies, -genes["mean_real"], np.inf), kind="stable")[: min(N_CORRELATED, varies.sum())]
    lower = np.tril_indices(len(top), -1)
    of = [np.corrcoef(_residuals(arrays.dense(X[k][:, top]), codes[k]).T)[lower] for k in (real, ~real)]
    correlations = pd.DataFrame({"real": of[0], "simulated": of[1]})

    features = np.column_stack(
        [PCA(min(N_COMPONENTS, *X.shape), random_state=random_state).fit_transform(arrays.dense(X)), np.log(total),
         np.log(detected)]
    )  # fmt: skip
    scores = _scores(features, real, codes, random_state)
    rows = []
    for c in np.unique(codes):
        mine = codes == c
        r, s = mine & real, mine & ~real
        row = dict(labels[mine].iloc[0])
        row |= {"n_real": int(r.sum()), "n_simulated": int(s.sum())}
        for name, k in (("real", r), ("simulated", s)):
            row[f"library_{name}"] = np.median(total[k]) if k.any() else np.nan
            row[f"zeros_{name}"] = 1 - detected[k].mean() / Y.shape[1] if k.any() else np.nan
        enough = min(row["n_real"], row["n_simulated"]) >= MIN_CELLS
        row |= {n: roc_auc_score(~real[mine], v[mine]) if enough else np.nan for n, v in scores.items()}
        rows.append(row)
    groups = pd.DataFrame(rows)
    library = pd.DataFrame({"log10_counts": np.log10(total), "kind": np.where(real, "real", "simulated")})
    return Fidelity(_summary(groups, genes, correlations, scores, real), groups, genes, correlations, library)


def _scores(features: np.ndarray, real: np.ndarray, codes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Held-out probability that each cell is simulated, by classifier; folds hold equal shares of groups and kinds."""
    models = {
        "auc": RandomForestClassifier(N_TREES, min_samples_leaf=2, random_state=seed),
        "auc_linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    }
    strata = 2 * codes + real
    # strata smaller than the folds go together by kind
    small = np.bincount(strata)[strata] < N_FOLDS
    split = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    folds = list(split.split(features, np.where(small, -1 - real.astype(int), strata)))
    return {
        name: cross_val_predict(m, features, ~real, cv=folds, method="predict_proba")[:, 1]
        for name, m in models.items()
    }


def _genes(Y: sp.csr_matrix, total: np.ndarray, codes: np.ndarray, real: np.ndarray) -> pd.DataFrame:
    """Moments of every gene, of real and simulated cells."""
    out = {}
    size = total / total[real].mean()
    for name, k in (("real", real), ("simulated", ~real)):
        own = sp.csr_matrix(sp.diags(1 / size[k]) @ Y[k])
        n = np.bincount(codes[k], minlength=codes.max() + 1)
        sums = arrays.group_sums(own, codes[k], len(n))
        squares = arrays.group_sums(own.multiply(own).tocsr(), codes[k], len(n)).sum(axis=0)
        between = np.sum(sums**2 / np.maximum(n, 1)[:, None], axis=0)
        out[f"mean_{name}"] = np.asarray(Y[k].mean(axis=0)).ravel()
        out[f"variance_{name}"] = (squares - between) / max(k.sum() - np.sum(n > 0), 1)
        out[f"zeros_{name}"] = 1 - np.bincount(Y[k].indices, minlength=Y.shape[1]) / k.sum()
    return pd.DataFrame(out)


def _residuals(X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    own, place = np.unique(codes, return_inverse=True)
    means = arrays.group_sums(X, place, len(own)) / np.bincount(place)[:, None]
    return X - means[place]


def _summary(
    groups: pd.DataFrame,
    genes: pd.DataFrame,
    correlations: pd.DataFrame,
    scores: dict[str, np.ndarray],
    real: np.ndarray,
) -> pd.DataFrame:
    """``measure, value, ideal``."""
    seen = (genes["mean_real"] > 0.1) & (genes["mean_simulated"] > 0)
    ratio = {m: np.log2(genes.loc[seen, f"{m}_simulated"] / genes.loc[seen, f"{m}_real"]) for m in ("mean", "variance")}
    slope = np.sum(correlations["real"] * correlations["simulated"]) / np.sum(correlations["real"] ** 2)
    rows = [
        ("median log2 ratio of means", ratio["mean"].median(), 0.0),
        ("median absolute log2 ratio of means", ratio["mean"].abs().median(), 0.0),
        ("median log2 ratio of variances", ratio["variance"].median(), 0.0),
        ("median absolute log2 ratio of variances", ratio["variance"].abs().median(), 0.0),
        ("mean difference of zeros", (genes["zeros_simulated"] - genes["zeros_real"]).mean(), 0.0),
        ("correlation of gene-gene correlations", correlations.corr().iloc[0, 1], 1.0),
        ("slope of gene-gene correlations", slope, 1.0),
        ("median log2 ratio of library sizes",
         np.log2(groups["library_simulated"] / groups["library_real"]).median(), 0.0),
        ("AUC of a random forest, median of groups", groups["auc"].median(), 0.5),
        ("AUC of a random forest, 90th percentile of groups", groups["auc"].quantile(0.9), 0.5),
        ("AUC of a random forest, all cells", roc_auc_score(~real, scores["auc"]), 0.5),
        ("AUC of a logistic regression, median of groups", groups["auc_linear"].median(), 0.5),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["measure", "value", "ideal"])

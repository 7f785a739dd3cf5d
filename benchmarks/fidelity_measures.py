"""Measures of how closely simulated counts resemble those of real cells."""

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

from flda._adata import read
from flda._data import arrays
from flda._data.log_normalise import log_normalise
from flda.simulate._fit import read_counts

N_COMPONENTS, N_TREES, N_FOLDS = 30, 200, 5
N_CORRELATED = 200  # genes with the largest means, between which correlations are compared
MIN_CELLS = 5  # real and simulated cells that a group needs for an AUC


@dataclass(frozen=True)
class Fidelity:
    """Result of :func:`fidelity`.

    Attributes
    ----------
    summary
        One row per measure: ``measure, value, ideal``.
    groups
        One row per group: levels, ``n_real, n_simulated, library_real, library_simulated`` (median total counts),
        ``zeros_real, zeros_simulated`` (share of zero counts), ``auc`` and ``auc_linear``.
    genes
        One row per gene: ``gene, mean_real, mean_simulated, variance_real, variance_simulated, zeros_real,
        zeros_simulated``. Means and zeros are over all cells; variances are within groups, of counts over library size.
    correlations
        One row per pair of the 200 genes with the largest means: ``real, simulated`` within-group correlation of
        log-normalised expression.
    library
        One row per cell: ``log10_counts, kind``.
    """

    summary: pd.DataFrame
    groups: pd.DataFrame
    genes: pd.DataFrame
    correlations: pd.DataFrame
    library: pd.DataFrame


def fidelity(
    adata: AnnData,
    simulated: AnnData,
    factors: Sequence[str],
    *,
    layer: str | None = "counts",
    random_state: int = 0,
) -> Fidelity:
    """Compare simulated with real cells: means, variances, zeros, correlations, library sizes, and a classifier.

    Two classifiers are trained to distinguish simulated from real cells: a random forest (``auc``) and a logistic
    regression (``auc_linear``). Their features are 30 principal components of log-normalised expression and the
    logarithms of total counts and of the number of detected genes. Cells are scored in five folds, each cell while it
    is held out; the AUC of a group is computed on its own cells. An AUC of 0.5 means that simulated cells cannot be
    distinguished from real ones. A group with fewer than five real or five simulated cells has no AUC.

    Parameters
    ----------
    adata
        Real cells. The comparison is stricter with cells to which the model was not fitted.
    simulated
        Cells from :meth:`flda.simulate.CountModel.sample`, of the same genes.
    factors
        Columns of both ``obs`` whose combinations are the groups.
    layer
        Layer of the counts in both; None for ``X``.
    random_state
        Seed of folds and trees.

    Raises
    ------
    ValueError
        If the two do not have the same genes in the same order.
    """
    if list(adata.var_names) != list(simulated.var_names):
        raise ValueError("adata and simulated must have the same genes in the same order (var_names differ).")
    parts = [(read.labels(a, factors).astype(str), read_counts(a, layer)) for a in (adata, simulated)]
    keep = [t.notna().all(axis=1).to_numpy() for t, _ in parts]
    labels = pd.concat([t[k] for (t, _), k in zip(parts, keep, strict=True)], ignore_index=True)
    Y = sp.vstack([y[k] for (_, y), k in zip(parts, keep, strict=True)], format="csr")
    real = np.arange(len(labels)) < keep[0].sum()
    codes = labels.groupby(factors, sort=True).ngroup().to_numpy()
    total = np.asarray(Y.sum(axis=1)).ravel()
    detected = np.diff(Y.indptr)
    X = log_normalise(Y)

    genes = gene_moments(Y, total, codes, real).assign(gene=adata.var_names)
    varies = genes[["variance_real", "variance_simulated"]].min(axis=1).to_numpy() > 0
    top = np.argsort(np.where(varies, -genes["mean_real"], np.inf), kind="stable")[: min(N_CORRELATED, varies.sum())]
    lower = np.tril_indices(len(top), -1)
    correlations = pd.DataFrame(
        {
            name: np.corrcoef(residuals(arrays.dense(X[k][:, top]), codes[k]).T)[lower]
            for name, k in (("real", real), ("simulated", ~real))
        }
    )
    components = PCA(min(N_COMPONENTS, *X.shape), random_state=random_state).fit_transform(arrays.dense(X))
    features = np.column_stack([components, np.log(total), np.log(detected)])
    scores = held_out_scores(features, real, codes, random_state)
    groups = compare_groups(Y, labels, codes, real, scores)
    library = pd.DataFrame({"log10_counts": np.log10(total), "kind": np.where(real, "real", "simulated")})
    return Fidelity(summarise(groups, genes, correlations, scores, real), groups, genes, correlations, library)


def compare_groups(
    Y: sp.csr_matrix, labels: pd.DataFrame, codes: np.ndarray, real: np.ndarray, scores: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Table ``Fidelity.groups``; ``scores`` holds the held-out probability that each cell is simulated."""
    total, detected = np.asarray(Y.sum(axis=1)).ravel(), np.diff(Y.indptr)
    rows = []
    for c in np.unique(codes):
        in_group = codes == c
        row = dict(labels[in_group].iloc[0])
        kinds = {"real": in_group & real, "simulated": in_group & ~real}
        row |= {f"n_{name}": int(k.sum()) for name, k in kinds.items()}
        for name, k in kinds.items():
            row[f"library_{name}"] = np.median(total[k]) if k.any() else np.nan
            row[f"zeros_{name}"] = 1 - detected[k].mean() / Y.shape[1] if k.any() else np.nan
        enough = min(row["n_real"], row["n_simulated"]) >= MIN_CELLS
        row |= {n: roc_auc_score(~real[in_group], v[in_group]) if enough else np.nan for n, v in scores.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def held_out_scores(features: np.ndarray, real: np.ndarray, codes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Held-out probability that each cell is simulated, by classifier; folds hold equal shares of groups and kinds."""
    models = {
        "auc": RandomForestClassifier(N_TREES, min_samples_leaf=2, random_state=seed),
        "auc_linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    }
    strata = 2 * codes + real
    # a stratum with fewer cells than folds cannot be split evenly, so all such strata are joined, by kind
    small = np.bincount(strata)[strata] < N_FOLDS
    split = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    folds = list(split.split(features, np.where(small, -1 - real.astype(int), strata)))
    return {
        name: cross_val_predict(m, features, ~real, cv=folds, method="predict_proba")[:, 1]
        for name, m in models.items()
    }


def gene_moments(Y: sp.csr_matrix, total: np.ndarray, codes: np.ndarray, real: np.ndarray) -> pd.DataFrame:
    """Mean, variance within groups and share of zeros of every gene, in real and in simulated cells."""
    out = {}
    size = total / total[real].mean()
    for name, k in (("real", real), ("simulated", ~real)):
        scaled = sp.csr_matrix(sp.diags(1 / size[k]) @ Y[k])
        n = np.bincount(codes[k], minlength=codes.max() + 1)
        sums = arrays.group_sums(scaled, codes[k], len(n))
        squares = arrays.group_sums(scaled.multiply(scaled).tocsr(), codes[k], len(n)).sum(axis=0)
        between = np.sum(sums**2 / np.maximum(n, 1)[:, None], axis=0)
        out[f"mean_{name}"] = np.asarray(Y[k].mean(axis=0)).ravel()
        out[f"variance_{name}"] = (squares - between) / max(k.sum() - np.sum(n > 0), 1)
        out[f"zeros_{name}"] = 1 - np.bincount(Y[k].indices, minlength=Y.shape[1]) / k.sum()
    return pd.DataFrame(out)


def residuals(X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Expression minus the mean of the cell's group."""
    occupied, group = np.unique(codes, return_inverse=True)
    means = arrays.group_sums(X, group, len(occupied)) / np.bincount(group)[:, None]
    return X - means[group]


def summarise(
    groups: pd.DataFrame,
    genes: pd.DataFrame,
    correlations: pd.DataFrame,
    scores: dict[str, np.ndarray],
    real: np.ndarray,
) -> pd.DataFrame:
    """Table ``Fidelity.summary``; ratios of means and variances are over genes with a mean count above 0.1."""
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

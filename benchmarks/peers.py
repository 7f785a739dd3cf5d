"""The methods that benchmarks/compare.py compares: each is fitted to training cells and gives axes, levels, or both.

Axes by effect:

* FLDA, sparse FLDA: this package with default settings, 20 genes per axis. FLDA difference: ``objective="difference"``.
* 2LDA: one LDA per factor by scikit-learn, shrinkage "auto", which shrinks the covariance of every level by itself.
  2LDA pooled: one LDA per factor with the pooled covariance within levels, in units of each gene's standard deviation
  within levels, shrunken by Ledoit and Wolf. Both have no axes for interactions.
* dPCA: demixed PCA of single cells, implemented from the paper (Kobak et al., eLife 5:e10989, 2016, eqs. 1-3 and the
  ridge of the decoder) with the least-squares effects of this package as marginalisations, since the published package
  does not accept empty groups. The ridge is chosen among seven by held-out reconstruction in an inner fold, and is 0.1
  where a fifth of the cells cannot estimate all effects.
* lasso: sparse optimal scoring (Clemmensen et al., Technometrics 53:406, 2011, without the ridge), by scikit-learn's
  MultiTaskLasso of the coded effect with the penalty that selects about 20 genes.

Axes that belong to no effect; as many as all effects have degrees of freedom:

* PCA. LDA: scikit-learn, one class per group, shrinkage "auto". LDA pooled: the same classes with the covariance of
  2LDA pooled.
* CCA, PLS: scikit-learn, expression against the coded effects (CCA: its first 50 principal components, or as many as a
  quarter of the cells).

Levels: FLDA's own ``predict_proba``; LDA and LDA pooled, whose posteriors are summed over groups; 2LDA and 2LDA pooled;
logistic: multinomial regression with balanced classes and an L2 penalty on the first 100 principal components of the
standardised genes, where C is chosen by the balanced log-loss of three inner folds. All have equal prior probabilities
(FLDA and 2LDA of levels, LDA of groups), except for those whose name ends in "frequency".
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax
from sklearn.covariance import ledoit_wolf
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, MultiTaskLasso
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from flda import FLDA, SparseFLDA
from flda._design.design import Design

RIDGES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)
N_COMPONENTS = 100  # of the logistic regression
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression

Posterior = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Cells:
    """Training cells: expression, labels as text, their design, the interactions asked for, and donors or None."""

    X: np.ndarray
    y: pd.DataFrame
    design: Design
    interactions: str | None
    donors: np.ndarray | None

    @property
    def n_axes(self) -> int:
        return sum(self.design.df(e) for e in self.design.effects)

    def codes(self, factor: str) -> np.ndarray:
        """Level of each cell, as an index into ``design.levels``."""
        return self.design.table.groups[self.design.codes, self.design.table.factors.index(factor)]

    def coding(self) -> np.ndarray:
        """Sum-to-zero coding of all effects, one row per cell."""
        return np.hstack([self.design.table.coding(e) for e in self.design.contrasts])[self.design.codes]

    def over_levels(self, groups: np.ndarray) -> dict[str, np.ndarray]:
        """Sum probabilities of groups (n, C) over the groups of each level."""
        table = self.design.table
        of = zip(table.factors, table.groups.T, table.n_levels, strict=True)
        return {f: groups @ np.eye(n)[levels] for f, levels, n in of}


@dataclass
class Fitted:
    """What a method found: axes by effect or as one matrix, and probabilities of levels by the name of the method."""

    axes: Mapping[str, np.ndarray] | np.ndarray | None = None
    posteriors: dict[str, Posterior] = field(default_factory=dict)


Methods = dict[str, Callable[[Cells], Fitted]]


def ours(name: str, estimator: type[FLDA] = FLDA, axes: bool = True, **options) -> Callable[[Cells], Fitted]:
    """An estimator of this package with these options and its defaults otherwise."""

    def fit(cells: Cells) -> Fitted:
        model = estimator(interactions=cells.interactions, random_state=0, **options)
        model.fit(cells.X, cells.y, groups=cells.donors)

        def posterior(X: np.ndarray) -> dict[str, np.ndarray]:
            found = model.predict_proba(X)
            return {f: found[f][list(cells.design.levels[f])].to_numpy() for f in cells.y}

        effect = model.axes_["effect"].to_numpy()
        by_effect = {e: model.components_[effect == e].T for e in dict.fromkeys(effect)}
        return Fitted(by_effect if axes else None, {name: posterior})

    return fit


class PooledLDA:
    """LDA with equal priors and the pooled covariance within classes, shrunken by Ledoit and Wolf."""

    def __init__(self, X: np.ndarray, codes: np.ndarray):
        n_classes = codes.max() + 1
        self.means = np.stack([X[codes == c].mean(axis=0) for c in range(n_classes)])
        residuals = X - self.means[codes]
        self.scale = np.sqrt(np.sum(residuals**2, axis=0) / (len(X) - n_classes))
        self.scale[self.scale == 0] = 1
        self.covariance = ledoit_wolf(residuals / self.scale, assume_centered=True)[0] * len(X) / (len(X) - n_classes)
        self.centre = self.means.mean(axis=0)
        self.patterns = (self.means - self.centre) / self.scale
        self.discriminants = cho_solve(cho_factor(self.covariance), self.patterns.T)

    def axes(self, n: int) -> np.ndarray:
        """Directions of the largest variance of the class means over that within classes, (p, n)."""
        vectors = np.linalg.eigh(self.patterns @ self.discriminants)[1][:, ::-1]
        return self.discriminants @ vectors[:, :n] / self.scale[:, None]

    def posterior(self, X: np.ndarray) -> np.ndarray:
        offsets = np.einsum("ij,ji->i", self.patterns, self.discriminants) / 2
        return softmax((X - self.centre) / self.scale @ self.discriminants - offsets, axis=1)


def sklearn_lda(X: np.ndarray, codes: np.ndarray) -> LinearDiscriminantAnalysis:
    return LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(X, codes)


def equal_prior(model: LinearDiscriminantAnalysis, X: np.ndarray) -> np.ndarray:
    """Posterior of a scikit-learn LDA, which was fitted with the frequencies as prior, under equal priors."""
    return softmax(model.predict_log_proba(X) - np.log(model.priors_), axis=1)


def group_lda(cells: Cells) -> Fitted:
    model = sklearn_lda(cells.X, cells.design.codes)
    return Fitted(
        model.scalings_[:, : cells.n_axes],
        {
            "LDA": lambda X: cells.over_levels(equal_prior(model, X)),
            "LDA frequency": lambda X: cells.over_levels(model.predict_proba(X)),
        },
    )


def group_lda_pooled(cells: Cells) -> Fitted:
    model = PooledLDA(cells.X, cells.design.codes)
    return Fitted(model.axes(cells.n_axes), {"LDA pooled": lambda X: cells.over_levels(model.posterior(X))})


def factor_lda(cells: Cells) -> Fitted:
    models = {f: sklearn_lda(cells.X, cells.codes(f)) for f in cells.y}
    axes = {f: m.scalings_[:, : len(m.classes_) - 1] for f, m in models.items()}
    return Fitted(axes, {"2LDA": lambda X: {f: equal_prior(m, X) for f, m in models.items()}})


def factor_lda_pooled(cells: Cells) -> Fitted:
    models = {f: PooledLDA(cells.X, cells.codes(f)) for f in cells.y}
    axes = {f: m.axes(len(m.means) - 1) for f, m in models.items()}
    return Fitted(axes, {"2LDA pooled": lambda X: {f: m.posterior(X) for f, m in models.items()}})


def pca(cells: Cells) -> Fitted:
    return Fitted(PCA(cells.n_axes, random_state=0).fit(cells.X).components_.T)


def pls(cells: Cells) -> Fitted:
    return Fitted(PLSRegression(cells.n_axes).fit(cells.X, cells.coding()).x_rotations_)


def cca(cells: Cells) -> Fitted:
    reduced = PCA(min(50, len(cells.X) // 4, cells.X.shape[1]), random_state=0).fit(cells.X)
    model = CCA(cells.n_axes, max_iter=2000).fit(reduced.transform(cells.X), cells.coding())
    return Fitted(reduced.components_.T @ model.x_rotations_)


def decoders(X: np.ndarray, design: Design, ridges) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """dPCA at each ridge: effect -> decoder (p, df) and encoder (df, p), of centred cells X.

    The marginalisation of an effect is regressed on the cells, and the fitted values are reduced to rank df. Its rank
    is df already, so all that is decomposed here has df columns.
    """
    means = np.stack([X[design.codes == c].mean(axis=0) for c in range(design.n_groups)])
    values, vectors = np.linalg.eigh(X.T @ X)
    targets = {}
    for e in design.effects:
        U, s, V = np.linalg.svd(design.fitted(e) @ means, full_matrices=False)
        n = design.df(e)
        targets[e] = vectors.T @ (X.T @ (U[:, :n] * s[:n])[design.codes]), V[:n]
    out = []
    for ridge in ridges:
        found = {}
        for e, (rotated, V) in targets.items():
            A = vectors @ (rotated / (values + ridge * values.mean())[:, None])  # the target is about X @ A @ V
            R = np.linalg.svd(X @ A, full_matrices=False)[2]
            found[e.name] = A @ R.T, R @ V
        out.append(found)
    return out


def chosen_ridge(X: np.ndarray, design: Design) -> float:
    """The ridge with the best reconstruction of the marginalisations of a fifth of the cells."""
    order = np.random.default_rng(0).permutation(len(X))
    inner, outer = np.sort(order[: len(X) // 5]), np.sort(order[len(X) // 5 :])
    training, held_out = design.subset(outer), design.subset(inner)
    if training is None or held_out is None:
        return 0.1
    centre = X[outer].mean(axis=0)
    test = X[inner] - centre
    means = np.stack([test[held_out.codes == c].mean(axis=0) for c in range(held_out.n_groups)])
    targets = {e.name: (held_out.fitted(e) @ means)[held_out.codes] for e in held_out.effects}
    losses = [
        sum(np.sum((targets[e] - test @ D @ F) ** 2) for e, (D, F) in found.items())
        for found in decoders(X[outer] - centre, training, RIDGES)
    ]
    return RIDGES[int(np.argmin(losses))]


def demixed(cells: Cells) -> Fitted:
    ridge = chosen_ridge(cells.X, cells.design)
    (found,) = decoders(cells.X - cells.X.mean(axis=0), cells.design, [ridge])
    return Fitted({e: D for e, (D, _) in found.items()})


def lasso(cells: Cells, n_genes: int = 20) -> Fitted:
    scaler = StandardScaler().fit(cells.X)
    Z, out = scaler.transform(cells.X), {}
    for e in cells.design.effects:
        Y = cells.design.table.coding(e)[cells.design.codes]
        Y = Y - Y.mean(axis=0)
        alpha = largest = np.linalg.norm(Z.T @ Y, axis=1).max() / len(Z)
        model, best = MultiTaskLasso(warm_start=True, tol=1e-3), None
        while alpha > 1e-3 * largest:  # a few cells may never select so many genes
            alpha *= 0.93
            coefficients = model.set_params(alpha=alpha).fit(Z, Y).coef_
            n = np.count_nonzero(np.any(coefficients != 0, axis=0))
            if n and (best is None or abs(n - n_genes) <= abs(best[0] - n_genes)):
                best = n, coefficients
            if n >= n_genes:
                break
        axes = np.linalg.svd(best[1], full_matrices=False)[2][: cells.design.df(e)]
        out[e.name] = (axes / scaler.scale_).T
    return Fitted(out)


def logistic(cells: Cells) -> Fitted:
    scaler = StandardScaler().fit(cells.X)
    reduced = PCA(min(N_COMPONENTS, *cells.X.shape), random_state=0).fit(scaler.transform(cells.X))
    Z = reduced.transform(scaler.transform(cells.X))
    models = {f: balanced_logistic(Z, cells.codes(f), cells.donors) for f in cells.y}

    def posterior(X: np.ndarray) -> dict[str, np.ndarray]:
        scores = reduced.transform(scaler.transform(X))
        return {f: m.predict_proba(scores) for f, m in models.items()}

    return Fitted(None, {"logistic": posterior})


def balanced_logistic(Z: np.ndarray, codes: np.ndarray, donors: np.ndarray | None) -> LogisticRegression:
    """Logistic regression with the C that has the best balanced log-loss over three inner folds."""
    splitter = (StratifiedKFold if donors is None else StratifiedGroupKFold)(3, shuffle=True, random_state=0)
    losses = np.zeros(len(STRENGTHS))
    for train, test in splitter.split(Z, codes, donors):
        known = test[np.isin(codes[test], codes[train])]  # a level with one cell may be missing in training
        for i, C in enumerate(STRENGTHS):
            model = regression(C).fit(Z[train], codes[train])
            own = model.predict_proba(Z[known])[np.arange(len(known)), np.searchsorted(model.classes_, codes[known])]
            losses[i] -= pd.Series(np.log(own.clip(1e-12))).groupby(codes[known]).mean().mean()
    return regression(STRENGTHS[int(np.argmin(losses))]).fit(Z, codes)


def regression(C: float) -> LogisticRegression:
    return LogisticRegression(C=C, class_weight="balanced", max_iter=500)


def methods() -> Methods:
    """All methods that the installed package allows, FLDA first."""
    known = inspect.signature(FLDA).parameters
    own = {"FLDA": ours("FLDA")}
    if "objective" in known:
        own["FLDA difference"] = ours("FLDA difference", objective="difference")
    if "prior" in known:
        own["FLDA frequency"] = ours("FLDA frequency", axes=False, prior="frequency")
    own["sparse FLDA"] = ours("sparse FLDA", SparseFLDA)
    peers = {
        "PCA": pca, "LDA": group_lda, "LDA pooled": group_lda_pooled, "2LDA": factor_lda,
        "2LDA pooled": factor_lda_pooled, "CCA": cca, "PLS": pls, "dPCA": demixed, "lasso": lasso, "logistic": logistic,
    }  # fmt: skip
    return own | peers


def timed(fit: Callable[[Cells], Fitted], cells: Cells) -> tuple[Fitted, float]:
    """Fit a method, and measure the seconds that it takes."""
    start = time.perf_counter()
    return fit(cells), time.perf_counter() - start

"""Prediction of levels: from the group means to the probability of every level of a factor.

Cells of group c are Gaussian around a mean m_c, with the covariance M_e(g). The discriminant of group c is ::

    delta_c(x) = x' M_e(g)^-1 m_c - 1/2 [m_c' M_e(g)^-1 m_c - d (A diag(1 / n) A')_cc],    m = A G

G are the observed means, whose noise lengthens them. The last term takes that off, so that a rare group is not
penalised for its few cells; ``d = tr(M_e(g)^-1 M_e)``. The matrix A (C x C) is one of three:

============  ======================================================================================
``observed``  the identity
``fitted``    the effects of the fit, by weighted least squares (:mod:`flda._solve.objective`)
``shrunken``  main effects fixed and all else random, which gives the best linear unbiased predictor:
              what the main effects leave of a mean is multiplied by ``tau2 / (tau2 + 1 / n_c)``
============  ======================================================================================

The probability of a level is the sum of the softmax of ``t delta_c + log prior_c`` over the groups with that level. The
temperature t of a factor corrects the overconfidence that comes with a covariance that is estimated. A, g and t are
those with the least loss on held-out cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from .._design.design import Design
from .._design.effects import Effect
from .._design.splits import Split
from .folds import FoldSpace
from .objective import Noise, lack_of_fit_variance

Prior = str | Sequence[float] | Mapping[str, str | Sequence[float]]
MAX_CELLS = 1000  # held-out cells of a fold from which the loss is computed
TEMPERATURES = (0.01, 5.0)  # the range of temperatures


@dataclass(frozen=True)
class Discriminants:
    """Linear functions of the scores ``(x - centre)' M_e(g)^-1 G'`` that discriminate between the groups.

    Attributes
    ----------
    map
        A, C x C.
    offsets
        Half the squared length of each mean without its noise, (C,).
    """

    map: np.ndarray
    offsets: np.ndarray

    def of(self, scores: np.ndarray) -> np.ndarray:
        """Compute the discriminant of every group, n x C, from the scores, n x C."""
        return scores @ self.map.T - self.offsets


def discriminants(design: Design, K: np.ndarray, noise: Noise) -> dict[str, Discriminants]:
    """Return the discriminants with observed, fitted and shrunken means, without repetitions.

    Parameters
    ----------
    design
        The groups and effects.
    K, noise
        Inner products ``G M_e(g)^-1 G'`` of the group means, C x C, and their noise.
    """
    C, table = design.n_groups, design.table
    maps = {"observed": np.eye(C)}
    mains = [e for e in design.contrasts if len(e) == 1]
    models: dict[str, Sequence[Effect]] = {"fitted": list(design.contrasts), "shrunken": mains}
    for name, effects in models.items():
        if table.df_left(effects) == 0:
            continue
        tau2 = lack_of_fit_variance(table, effects, K, noise)
        weights = 1 / (tau2 + 1 / noise.counts)
        fitted = table.model_matrix(effects) @ table.coefficients(effects, weights)
        kept = tau2 * weights if name == "shrunken" else np.zeros(C)
        maps[name] = fitted + kept[:, None] * (np.eye(C) - fitted)
    return {
        name: Discriminants(
            A, (np.einsum("ij,jk,ik->i", A, K, A) - noise.trace * np.sum(A**2 / noise.counts, axis=1)) / 2
        )
        for name, A in maps.items()
    }


def level_priors(
    levels: Mapping[str, Sequence | np.ndarray], groups: np.ndarray, counts: np.ndarray, prior: Prior
) -> dict[str, np.ndarray]:
    """Return the prior probability of every level, by factor.

    Parameters
    ----------
    levels
        Factor -> its levels.
    groups, counts
        Level codes of every group, C x F, and its number of cells, (C,).
    prior
        ``"equal"``, ``"frequency"`` for the share of each level in the cells, or probabilities in the order of the
        levels; a dict holds one of these for each factor, and factors that it does not name get equal priors.

    Raises
    ------
    ValueError
        If probabilities do not match the levels, or a factor is unknown.
    """
    given = dict(prior) if isinstance(prior, Mapping) else dict.fromkeys(levels, prior)
    for name in given:
        if name not in levels:
            raise ValueError(
                f"prior names the factor {name!r}; factors are {list(levels)}. Correct or remove that name."
            )
    out = {}
    for j, (f, names) in enumerate(levels.items()):
        value, n = given.get(f, "equal"), len(names)
        if isinstance(value, str):
            if value not in ("equal", "frequency"):
                raise ValueError(f"prior={value!r}: use 'equal', 'frequency', or a probability for every level.")
            cells = np.bincount(groups[:, j], counts, minlength=n)
            out[f] = np.full(n, 1 / n) if value == "equal" else cells / cells.sum()
            continue
        shares = np.asarray(value, dtype=float)
        if shares.shape != (n,) or not np.all(shares > 0) or not np.isclose(shares.sum(), 1):
            raise ValueError(
                f"prior of {f!r} must hold {n} probabilities above 0 that add up to 1, one for each of the levels "
                f"{[str(name) for name in names]}."
            )
        out[f] = shares
    return out


def log_probabilities(delta: np.ndarray, temperature: float, levels: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Compute the log probability of every level of a factor, n x levels.

    Parameters
    ----------
    delta
        Discriminants, n x C.
    temperature
        The factor t.
    levels
        Level of each group, (C,).
    log_prior
        Logarithm of the prior of each group, (C,).
    """
    z = temperature * delta + log_prior
    by_level = [logsumexp(z[:, levels == level], axis=1) for level in range(levels.max() + 1)]
    return np.stack(by_level, axis=1) - logsumexp(z, axis=1, keepdims=True)


def group_log_priors(levels: np.ndarray, counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return the log prior of every group, (C,), for one factor: that of its level, times its share in the level.

    Parameters
    ----------
    levels, counts
        Level and number of cells of each group, (C,).
    prior
        Prior probability of each level.
    """
    return np.log(prior[levels] * counts / np.bincount(levels, counts)[levels])


class Calibration:
    """The loss of predictions on held-out cells, from which g, the means and the temperatures are chosen.

    Parameters
    ----------
    grid
        The values of g.
    priors
        Factor -> prior probability of its levels. Held-out cells are weighted such that levels have these shares.
    """

    def __init__(self, grid: Sequence[float], priors: dict[str, np.ndarray]):
        self.grid, self.priors = grid, priors
        self._folds: list[_Held] = []

    def add(self, split: Split, spaces: Sequence[FoldSpace]) -> None:
        """Add the held-out cells of a fold, with the group spaces of its training cells for every g."""
        training = split.training
        assert training is not None
        # the first cells of every group, then the second ones, and so on
        order = np.argsort(_rank(split.known_groups), kind="stable")[:MAX_CELLS]
        truth = training.table.groups[split.known_groups[order]]
        found = [
            {name: d.of(s.scores[order]) for name, d in discriminants(training, s.K, s.noise).items()} for s in spaces
        ]
        self._folds.append(_Held(training, truth, found))

    def choose(self) -> tuple[float, str, dict[str, float]] | None:
        """Return g, the kind of means, and the temperature of every factor; None without any held-out cells."""
        held = [h for h in self._folds if len(h.truth)]
        if not held:
            return None
        names = [n for n in ("observed", "fitted", "shrunken") if all(n in h.found[0] for h in held)]
        best = None
        for i, g in enumerate(self.grid):
            for name in names:
                fits = {f: self._temperature(held, i, name, j) for j, f in enumerate(self.priors)}
                loss = float(np.mean([value for _, value in fits.values()]))
                if best is None or loss < best[0]:
                    best = loss, g, name, {f: t for f, (t, _) in fits.items()}
        assert best is not None
        return best[1:]

    def _temperature(self, held: list[_Held], i: int, name: str, factor: int) -> tuple[float, float]:
        """Return the best temperature of a factor and its loss."""
        prior = list(self.priors.values())[factor]
        counts = sum(np.bincount(h.truth[:, factor], minlength=len(prior)) for h in held)
        weights = prior / np.maximum(counts, 1)
        parts = [
            (h.found[i][name], h.truth[:, factor], levels, group_log_priors(levels, h.design.counts, prior))
            for h in held
            for levels in [h.design.table.groups[:, factor]]
        ]

        def loss(log_t: float) -> float:
            total = 0.0
            for delta, truth, levels, log_prior in parts:
                p = log_probabilities(delta, np.exp(log_t), levels, log_prior)
                total -= weights[truth] @ p[np.arange(len(truth)), truth]
            return total / float(weights @ counts)

        found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 0.02})
        return float(np.exp(found.x)), float(found.fun)


@dataclass(frozen=True)
class _Held:
    """The held-out cells of a fold: training design, true levels (n x F), and discriminants for every g by means."""

    design: Design
    truth: np.ndarray
    found: list[dict[str, np.ndarray]]


def _rank(codes: np.ndarray) -> np.ndarray:
    """Return the rank of each cell among the cells with its code."""
    order = np.argsort(codes, kind="stable")
    starts = np.r_[0, np.cumsum(np.bincount(codes))][codes[order]]
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - starts
    return rank

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
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from .._design.design import Design
from .._design.effects import Effect
from .._design.splits import Split
from .folds import FoldSpace
from .objective import Noise, lack_of_fit_variance

Prior = str | Sequence[float] | Mapping[str, str | Sequence[float]]
MAX_CELLS = 1000  # held-out cells of a fold from which the loss is computed
TEMPERATURES = (0.01, 2.0)  # the range of temperatures; where levels are perfectly predicted, all large ones are equal
TIE = 1e-3  # nats; among losses as close as this, the largest g wins


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
        """Compute the discriminant of every group, n x C, from the scores, n x C or more columns."""
        return scores[:, : len(self.map)] @ self.map.T - self.offsets


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
    K = K[:C, :C]  # covariates of new cells are not known, and taken to be zero, their mean
    maps, covariance = {"observed": np.eye(C)}, design.noise_of_means(noise.counts)
    if design.unit_model is not None:  # the means are fitted already
        return {"fitted": Discriminants(maps["observed"], np.diag(K - noise.trace * covariance) / 2)}
    every: list[Effect] = list(design.contrasts)
    mains: list[Effect] = [e for e in every if len(e) < 2]
    for name, effects in (("fitted", every), ("shrunken", mains)):
        if table.df_left(effects) == 0:
            continue
        tau2 = lack_of_fit_variance(table, effects, K, noise)
        weights = 1 / (tau2 + 1 / noise.counts)
        fitted = table.model_matrix(effects) @ table.coefficients(effects, weights)
        kept = tau2 * weights if name == "shrunken" else np.zeros(C)
        maps[name] = fitted + kept[:, None] * (np.eye(C) - fitted)
    return {
        name: Discriminants(
            A, (np.einsum("ij,jk,ik->i", A, K, A) - noise.trace * np.einsum("ij,jk,ik->i", A, covariance, A)) / 2
        )
        for name, A in maps.items()
    }


def level_priors(
    levels: Mapping[str, ArrayLike], groups: np.ndarray, counts: np.ndarray, prior: Prior
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
        value, n = given.get(f, "equal"), len(np.asarray(names))
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
                f"{np.asarray(names).astype(str).tolist()}."
            )
        out[f] = shares
    return out


def level_probabilities(delta: np.ndarray, temperature: float, levels: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Compute the probability of every level of a factor, n x levels.

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
    return softmax(temperature * delta + log_prior, axis=1) @ (levels[:, None] == np.arange(levels.max() + 1))


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
        self._truth: list[np.ndarray] = []  # of each fold: level codes of its held-out cells, n x F
        self._counts: list[np.ndarray] = []  # number of training cells of every group, once for each held-out cell
        self._deltas: list[list[dict[str, np.ndarray]]] = []  # discriminants for every g, by the kind of means, n x C

    def add(self, split: Split, spaces: Sequence[FoldSpace]) -> None:
        """Add the held-out cells of a fold, with the group spaces of its training cells for every g."""
        training = split.training
        assert training is not None
        # the first cells of every group, then the second ones, and so on
        order = np.argsort(_rank(split.known_groups), kind="stable")[:MAX_CELLS]
        if len(order) == 0:
            return
        C = split.design.n_groups

        def of_all_groups(rows: np.ndarray) -> np.ndarray:
            """Spread the training groups over all groups; one without training cells has the probability zero."""
            out = np.full((len(rows), C), -np.inf)
            out[:, split.present] = rows
            return out

        counts = np.zeros(C, dtype=np.int64)
        # a group may have its one unit held out; all groups are then as likely
        counts[split.present] = np.maximum(training.counts, 1)
        self._groups = split.design.table.groups
        self._truth.append(self._groups[split.present[split.known_groups[order]]])
        self._counts.append(np.tile(counts, (len(order), 1)))
        self._deltas.append(
            [
                {n: of_all_groups(d.of(space.scores[order])) for n, d in discriminants(training, *space[::2]).items()}
                for space in spaces
            ]
        )

    def choose(self) -> tuple[float, str, dict[str, float]] | None:
        """Return g, the kind of means, and the temperature of every factor; None without any held-out cells."""
        if not self._truth:
            return None
        truth, counts = np.vstack(self._truth), np.vstack(self._counts)
        losses = [_Loss(self._groups[:, j], counts, truth[:, j], prior) for j, prior in enumerate(self.priors.values())]
        tried = []
        for i, g in enumerate(self.grid):
            for name in ("observed", "fitted", "shrunken"):
                if not all(name in fold[i] for fold in self._deltas):
                    continue
                delta = np.vstack([fold[i][name] for fold in self._deltas])
                found = [loss.minimise(delta) for loss in losses]
                total = np.mean([value for _, value in found])
                tried.append((total, g, name, dict(zip(self.priors, (t for t, _ in found), strict=True))))
        best = min(total for total, *_ in tried)
        # among several kinds of means at that g, the first of those with the least loss
        return max(tried, key=lambda t: (t[0] <= best + TIE, t[1], -t[0]))[1:]


class _Loss:
    """The log-loss of one factor on held-out cells, in which its levels have the shares of the prior.

    Parameters
    ----------
    levels
        Level of each group, (C,).
    counts
        Number of cells of every group in the training cells of each held-out cell, n x C.
    truth
        Level of each held-out cell, (n,).
    prior
        Prior probability of each level.
    """

    def __init__(self, levels: np.ndarray, counts: np.ndarray, truth: np.ndarray, prior: np.ndarray):
        weights = prior / np.maximum(np.bincount(truth, minlength=len(prior)), 1)
        self._weights = weights[truth] / weights[truth].sum()
        of_levels = counts @ (levels[:, None] == np.arange(len(prior)))
        with np.errstate(divide="ignore"):
            self._log_prior = np.log(prior[levels] * counts / of_levels[:, levels])  # as in group_log_priors
        self._own = levels == truth[:, None]

    def minimise(self, delta: np.ndarray) -> tuple[float, float]:
        """Return the temperature with the least loss, and this loss, for discriminants n x C."""
        # -inf times a temperature is -inf, but the largest of a row must be finite
        delta = delta - delta.max(axis=1, keepdims=True)

        def loss(log_t: float) -> float:
            z = np.exp(np.exp(log_t) * delta + self._log_prior)
            own = (z * self._own).sum(axis=1) / z.sum(axis=1)
            return -float(self._weights @ np.log(np.maximum(own, 1e-300)))

        found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 0.05})
        return float(np.exp(found.x)), float(found.fun)


def _rank(codes: np.ndarray) -> np.ndarray:
    """Return the rank of each cell among the cells with its code."""
    order = np.argsort(codes, kind="stable")
    starts = np.r_[0, np.cumsum(np.bincount(codes))][codes[order]]
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - starts
    return rank

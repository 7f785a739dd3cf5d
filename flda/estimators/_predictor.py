"""The probability of every level of every factor for new cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .._design.design import Design
from .._solve.prediction import Prior, group_log_priors, level_priors, level_probabilities


@dataclass(frozen=True)
class Predictor:
    """Linear discriminants of the groups, and what turns them into probabilities of levels.

    Attributes
    ----------
    levels
        Factor -> its levels.
    groups, counts
        Level codes of every group, C x F, and its number of cells, (C,).
    centre
        Expression at which discriminants are zero but for the offsets, (p,).
    discriminants, offsets
        The discriminants of a cell x are ``(x - centre)' discriminants - offsets``: p x C, and (C,).
    temperatures
        Factor -> temperature.
    means, shrinkage
        The kind of means, and g.
    """

    levels: Mapping[str, np.ndarray]
    groups: np.ndarray
    counts: np.ndarray
    centre: np.ndarray
    discriminants: np.ndarray
    offsets: np.ndarray
    temperatures: Mapping[str, float]
    means: str
    shrinkage: float

    def probabilities(self, products: np.ndarray, prior: Prior) -> dict[str, np.ndarray]:
        """Compute the probability of the levels of each factor, n x levels.

        Parameters
        ----------
        products
            ``(x - centre)' discriminants`` of the cells, n x C.
        prior
            Prior of the levels, as in :class:`flda.FLDA`.
        """
        delta = products - self.offsets
        priors = level_priors(self.levels, self.groups, self.counts, prior)
        out = {}
        for j, (f, share) in enumerate(priors.items()):
            levels = self.groups[:, j]
            of_groups = group_log_priors(levels, self.counts, share)
            out[f] = level_probabilities(delta, self.temperatures[f], levels, of_groups)
        return out

    def stored(self) -> dict[str, Any]:
        """Return what predictions need besides the design, the centre and the discriminants."""
        return {
            "offsets": self.offsets,
            "temperatures": dict(self.temperatures),
            "means": self.means,
            "shrinkage": self.shrinkage,
        }

    def table(self) -> pd.DataFrame:
        """Return one row per factor: ``factor, means, shrinkage, temperature``."""
        rows = [{"factor": f, "means": self.means, "shrinkage": self.shrinkage} for f in self.levels]
        return pd.DataFrame(rows).assign(temperature=[self.temperatures[f] for f in self.levels])


def priors_of(design: Design, prior: Prior) -> dict[str, np.ndarray]:
    """Return the prior probability of every level of a design, by factor."""
    return level_priors({f: design.levels[f] for f in design.table.factors}, design.table.groups, design.counts, prior)

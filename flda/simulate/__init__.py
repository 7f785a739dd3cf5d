"""Counts simulated from a user's own cells: a fitted model, planted effects, and how large a study must be."""

from ._fit import fit_counts
from ._gamma import gamma_rates
from ._model import CountModel
from ._power import Power, power

__all__ = ["CountModel", "Power", "fit_counts", "gamma_rates", "power"]

"""Counts simulated from a user's own cells: model, planted effects, fidelity."""

from ._fidelity import Fidelity, fidelity
from ._fit import fit_counts, read_counts
from ._gamma import gamma_rates
from ._model import CountModel

__all__ = ["CountModel", "Fidelity", "fidelity", "fit_counts", "gamma_rates", "read_counts"]

"""Counts simulated from a user's own cells: model, planted effects, fidelity."""

from ._fidelity import Fidelity, fidelity
from ._fit import fit_counts, read_counts
from ._gamma import gamma_rates
from ._model import CountModel
from ._power import Power, power

__all__ = ["CountModel", "Fidelity", "Power", "fidelity", "fit_counts", "gamma_rates", "power", "read_counts"]

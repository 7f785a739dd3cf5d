"""The scikit-learn estimators: arrays in, arrays out. :mod:`flda.tl` applies them to AnnData."""

from ._flda import FLDA
from ._panel import PanelFLDA
from ._sparse import SparseFLDA

__all__ = ["FLDA", "PanelFLDA", "SparseFLDA"]

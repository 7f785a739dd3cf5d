"""The scikit-learn estimators: arrays in, arrays out. :mod:`flda.tl` applies them to AnnData."""

from ._flda import FLDA
from ._labels import donor_codes, expression, label_frame
from ._sparse import SparseFLDA

__all__ = ["FLDA", "SparseFLDA", "donor_codes", "expression", "label_frame"]

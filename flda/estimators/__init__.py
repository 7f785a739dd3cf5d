"""The scikit-learn estimators. Arrays in, arrays out; AnnData lives one floor up."""

from ._flda import FLDA
from ._labels import donor_codes, expression, label_frame
from ._sparse import SparseFLDA

__all__ = ["FLDA", "SparseFLDA", "donor_codes", "expression", "label_frame"]

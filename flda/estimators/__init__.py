"""The scikit-learn estimators: arrays in, arrays out. :mod:`flda.tl` applies them to AnnData."""

from ._flda import FLDA
from ._labels import checked_cells, donor_codes, label_frame
from ._sparse import SparseFLDA

__all__ = ["FLDA", "SparseFLDA", "checked_cells", "donor_codes", "label_frame"]

"""The scikit-learn estimators: arrays in, arrays out. :mod:`flda.tl` applies them to AnnData."""

from ._flda import FLDA
from ._labels import checked_cells, donor_codes, label_frame
from ._panel import PanelFLDA
from ._sparse import SparseFLDA

__all__ = ["FLDA", "PanelFLDA", "SparseFLDA", "checked_cells", "donor_codes", "label_frame"]

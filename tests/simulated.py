"""Data sets that several test modules use."""

import anndata as ad
import pandas as pd

from oracle import donor_problem


def with_donors(n_donors=4):
    """A treatment that varies between donors, and cell types within them."""
    X, y, donors = donor_problem(n_donors, 15, 30)
    obs = y.assign(donor=donors).set_index(pd.Index([f"c{i}" for i in range(len(y))]))
    return ad.AnnData(X, obs=obs)

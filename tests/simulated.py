"""Data sets that several test modules use."""

import anndata as ad
import numpy as np
import pandas as pd

from oracle import donor_problem


def with_donors(n_donors=4):
    """A treatment that varies between donors, and cell types within them."""
    X, y, donors = donor_problem(n_donors, 15, 30)
    obs = y.assign(donor=donors).set_index(pd.Index([f"c{i}" for i in range(len(y))]))
    return ad.AnnData(X, obs=obs)


def dosed(seed=0, n=4):
    """Gene 0 rises with the dose, gene 1 with that of drug b alone, and gene 2 differs between drugs."""
    rng = np.random.default_rng(seed)
    rows = [(d, x, b) for d in "ab" for x in (0, 1, 2, 4.0, 8.0) for b in "12"] * n
    obs = pd.DataFrame(rows, columns=["drug", "dose", "batch"], index=[f"c{i}" for i in range(len(rows))])
    X = rng.normal(size=(len(obs), 12))
    X[:, 0] += obs["dose"] / 2
    X[:, 1] += obs["dose"] * (obs["drug"] == "b") / 2
    X[:, 2] += 2 * (obs["drug"] == "b")
    return ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(12)]))

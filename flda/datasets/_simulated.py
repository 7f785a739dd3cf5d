"""Simulated T4/T5 cells with known truth, which need no download."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from ._common import axon_halves, from_counts


def t4t5_simulated(
    n_obs: int = 3557,
    n_vars: int = 2000,
    *,
    effect_size: float = 1.0,
    n_donors: int = 4,
    random_state: int = 0,
) -> AnnData:
    """Simulate cells like T4 and T5 neurons: dendrite (T4, T5) x axon (a, b, c, d), with known truth.

    These are not real data. Counts are negative binomial with log-normal library sizes and with dropout that decreases
    with expression. Five expression programmes vary between cells independently of their type, and donors differ
    slightly. Group sizes are unequal. 40 genes carry a dendrite effect, 60 an axon effect, 30 an interaction and 20
    both a dendrite and an axon effect; with fewer than 1,000 genes these numbers decrease in proportion. Gene names
    are neutral.

    Parameters
    ----------
    n_obs
        Number of cells, at least 16. The 48 h sample of Kurmangaliyev et al., eLife 8:e50822 (2019), has 3,557.
    n_vars
        Number of genes, at least 50. A whole transcriptome has 17,492.
    effect_size
        Standard deviation of the planted effects over the groups, in natural logarithms of expression.
    n_donors
        Number of donors. Cells of every group are assigned to donors at random.
    random_state
        Seed; the same seed gives the same cells.

    Returns
    -------
    AnnData with log-normalised expression in ``X`` (log1p of counts per 10,000, CSR float32) and

    * ``layers["counts"]``: the counts
    * ``obs["dendrite", "axon", "subtype", "donor"]``: categorical labels
    * ``obs["axon_ab_cd", "axon_bc_ad"]``: the layer of the axon as two binary factors
    * ``var["truth_dendrite", "truth_axon", "truth_dendrite:axon"]``: which effects a gene carries

    Raises
    ------
    ValueError
        If there are fewer than 16 cells or 50 genes.

    Examples
    --------
    >>> adata = t4t5_simulated(n_obs=400, n_vars=300)
    >>> adata.shape, list(adata.obs["subtype"].cat.categories)
    ((400, 300), ['T4a', 'T4b', 'T4c', 'T4d', 'T5a', 'T5b', 'T5c', 'T5d'])
    """
    if n_obs < 16 or n_vars < 50:
        raise ValueError(f"n_obs={n_obs} or n_vars={n_vars} is too small; use at least 16 cells and 50 genes.")
    rng = np.random.default_rng(random_state)
    shares = np.array([0.18, 0.12, 0.09, 0.15, 0.13, 0.10, 0.14, 0.09])
    group = np.concatenate([np.repeat(np.arange(8), 2), rng.choice(8, size=n_obs - 16, p=shares)])
    rng.shuffle(group)
    dendrite, axon = group // 4, group % 4
    donor = rng.integers(n_donors, size=n_obs)

    # genes that carry effects are the first of a random order, and are given a higher expression than the others
    scale = min(1.0, n_vars / 1000)
    n_carriers = [max(3, int(scale * n)) for n in (40, 60, 30, 20)]
    log_mean = rng.normal(-1.6, 1.3, size=n_vars)
    order = rng.permutation(n_vars)
    kinds = np.full(n_vars, -1)
    carriers = order[: sum(n_carriers)]
    kinds[carriers] = np.repeat(np.arange(4), n_carriers)
    log_mean[carriers] = rng.normal(-0.7, 0.7, size=len(carriers))
    carries = {
        "dendrite": np.isin(kinds, (0, 3)),
        "axon": np.isin(kinds, (1, 3)),
        "dendrite:axon": kinds == 2,
    }
    effects = {
        "dendrite": _sum_to_zero_effects(rng, (2,), n_vars)[dendrite],
        "axon": _sum_to_zero_effects(rng, (4,), n_vars)[axon],
        "dendrite:axon": _sum_to_zero_effects(rng, (2, 4), n_vars)[group],
    }
    programmes = rng.normal(size=(5, n_vars)) * (rng.random((5, n_vars)) < 0.15) * 0.5
    activity = rng.normal(size=(n_obs, 5))
    donor_shift = rng.normal(scale=0.1, size=(n_donors, n_vars))
    library = rng.lognormal(0.0, 0.35, size=n_obs)
    dispersion = rng.gamma(4.0, 0.1, size=n_vars)

    blocks = []
    for start in range(0, n_vars, 1000):
        genes = slice(start, min(start + 1000, n_vars))
        log_mu = log_mean[genes] + activity @ programmes[:, genes] + donor_shift[donor][:, genes]
        for name, effect in effects.items():
            log_mu += effect_size * effect[:, genes] * carries[name][genes]
        mu = np.exp(log_mu) * library[:, None]
        rate = rng.gamma(1 / dispersion[genes], dispersion[genes] * mu)
        counts = rng.poisson(rate)
        counts[rng.random(counts.shape) < 0.3 / (1 + mu)] = 0  # dropout, up to 30 % for rare transcripts
        blocks.append(sp.csc_matrix(counts.astype(np.float32)))

    width = len(str(n_vars))
    obs = pd.DataFrame(
        {
            "dendrite": pd.Categorical.from_codes(dendrite, ["T4", "T5"]),
            "axon": pd.Categorical.from_codes(axon, list("abcd")),
            **axon_halves(pd.Categorical.from_codes(axon, list("abcd"))),
            "subtype": pd.Categorical.from_codes(group, [f"{t}{a}" for t in ("T4", "T5") for a in "abcd"]),
            "donor": pd.Categorical.from_codes(donor, [f"donor{i + 1}" for i in range(n_donors)]),
        },
        index=[f"cell_{i:0{len(str(n_obs))}d}" for i in range(n_obs)],
    )
    var = pd.DataFrame(
        {f"truth_{name}": flags for name, flags in carries.items()},
        index=[f"gene_{i:0{width}d}" for i in range(n_vars)],
    )
    return from_counts(sp.hstack(blocks, format="csr"), obs, var)


def _sum_to_zero_effects(rng: np.random.Generator, sizes: tuple[int, ...], n_vars: int) -> np.ndarray:
    """Draw effects per level combination and gene that sum to zero over every factor and have a mean square of one."""
    effect = rng.normal(size=(*sizes, n_vars))
    for axis in range(len(sizes)):
        effect -= effect.mean(axis=axis, keepdims=True)
    effect = effect.reshape(-1, n_vars)
    return effect / np.sqrt(np.mean(effect**2, axis=0))

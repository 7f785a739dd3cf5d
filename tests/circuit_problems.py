"""Wiring, networks and cells with known answers, for the tests of flda.circuits."""

import itertools

import numpy as np
import pandas as pd
from anndata import AnnData

import flda
from flda import datasets
from flda.circuits import CircuitModel, Connection, Population

TYPES = [f"{d}{a}" for d in ("T4", "T5") for a in "abcd"]
FACTORS = pd.DataFrame({"dendrite": [t[:2] for t in TYPES], "axon": [t[2] for t in TYPES]}, index=TYPES)
PARTNERS = [f"P{i}" for i in range(6)]


def random_matrix(seed=0, types=TYPES, n_partners=6):
    """Inputs from and outputs to partners, and connections among the types."""
    rng = np.random.default_rng(seed)
    names = [*types, *(f"P{i}" for i in range(n_partners))]
    return pd.DataFrame(rng.normal(size=(len(names), len(names))), index=names, columns=names)


def projector(effect):
    """The textbook projector of a complete 2 x 4 table, types in the order of TYPES."""
    means = {k: np.full((k, k), 1 / k) for k in (2, 4)}
    parts = [np.eye(k) - means[k] if f in effect else means[k] for f, k in (("dendrite", 2), ("axon", 4))]
    return np.kron(*parts)


def planted(adata, noise=0.3, seed=0):
    """Inputs follow the gene scores on dendrite_1, outputs those on axon_1 and axon_2."""
    rng = np.random.default_rng(seed)
    scores = pd.DataFrame(adata.obsm["X_flda_held_out"], columns=flda.get.axes_df(adata)["axis"])
    means = scores.groupby(adata.obs["subtype"].astype(str).to_numpy()).mean().loc[TYPES]
    matrix = pd.DataFrame(0.0, index=[*TYPES, *PARTNERS], columns=[*TYPES, *PARTNERS])
    standard = (means - means.mean()) / means.std()
    matrix.loc[PARTNERS, TYPES] = np.outer(rng.normal(size=6), standard["dendrite_1"])
    matrix.loc[TYPES, PARTNERS] = standard[["axon_1", "axon_2"]].to_numpy() @ rng.normal(size=(2, 6))
    for part in ((PARTNERS, TYPES), (TYPES, PARTNERS)):
        matrix.loc[part] += noise * rng.normal(size=matrix.loc[part].shape)
    return matrix


def signed_problem(n_samples=300, seed=0):
    """T4/T5 cells with genes, partners with transmitter genes, signed inputs by dendrite, and activity."""
    rng = np.random.default_rng(seed)
    adata = datasets.t4t5_simulated(n_obs=500, n_vars=150)
    pres = {"Mi1": "VAChT", "Tm3": "VAChT", "Mi4": "Gad1", "Mi9": "VGlut", "Tm9": "VAChT", "CT1": "Gad1"}
    extra = rng.poisson(0.3, size=(20 * len(pres), adata.n_vars)).astype(float)
    genes = [*adata.var_names, "VAChT", "Gad1", "VGlut"]
    counts = np.zeros((adata.n_obs + len(extra), len(genes)))
    counts[: adata.n_obs, : adata.n_vars] = adata.layers["counts"].toarray()
    counts[adata.n_obs :, : adata.n_vars] = extra
    counts[: adata.n_obs, genes.index("VAChT")] = rng.poisson(5, adata.n_obs)
    names = np.repeat(list(pres), 20)
    for pre, gene in pres.items():
        rows = adata.n_obs + np.flatnonzero(names == pre)
        counts[rows, genes.index(gene)] = rng.poisson(8, 20)
    obs = pd.DataFrame(
        {"type": [*adata.obs["subtype"].astype(str), *names]}, index=[f"c{i}" for i in range(len(counts))]
    )
    obs["dendrite"] = pd.Categorical([*adata.obs["dendrite"], *[np.nan] * len(extra)])
    obs["axon"] = pd.Categorical([*adata.obs["axon"], *[np.nan] * len(extra)])
    scaled = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    cells = AnnData(scaled, obs=obs, var=pd.DataFrame(index=genes))
    cells.layers["counts"] = counts
    flda.tl.flda(cells, ["dendrite", "axon"], shrinkage=0.5)
    truth = pd.DataFrame(0.0, index=list(pres), columns=TYPES)
    truth.loc[["Mi1", "Tm3", "Mi4", "Mi9"], TYPES[:4]] = np.array([[50, 20, -12, -22]]).T
    truth.loc[["Tm9", "CT1"], TYPES[4:]] = np.array([[48, -35]]).T
    shared = rng.normal(size=(n_samples, 1))
    activity = pd.DataFrame(
        np.maximum(0.8 * shared + 0.6 * rng.normal(size=(n_samples, 6)) + 0.5, 0), columns=list(pres)
    )
    clean = activity @ truth
    responses = clean + 0.2 * clean.to_numpy().std() * rng.normal(size=clean.shape)
    edges = pd.DataFrame(list(itertools.product(pres, TYPES)), columns=["pre", "post"])
    return cells, edges, activity, responses, truth


def problem(seed=0, n=14, m=11, p=4, q=3, share=0.6):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, p)), rng.normal(size=(m, q))
    C = (rng.random((n, m)) < share).astype(float)
    B = C * (X @ rng.normal(size=(p, q)) @ Y.T + rng.normal(size=(n, m)))
    return X, Y, B, C


def undirected(seed=0, n=20, p=4, rate=0.35):
    rng = np.random.default_rng(seed)
    X = (rng.random((n, p)) < 0.5).astype(float)
    C = np.triu(rng.random((n, n)) < 0.7)
    C = (C | C.T).astype(float)
    B = np.triu(rng.random((n, n)) < rate) * np.triu(C)
    return X, np.maximum(B, B.T).astype(float), C


def kron_rows(X, Y, C):
    """The regressors of the rules, a row per pair in contact, the slow way."""
    return np.array([np.kron(X[i], Y[j]) for i, j in np.argwhere(C > 0)])


def small(threshold=0.0, signs=None, skip=True):
    """Four inputs, three hidden units, one output, with or without a direct path."""
    rng = np.random.default_rng(0)
    signs = np.full((4, 3), np.nan) if signs is None else signs
    connections = [Connection("in", "hidden", signs), Connection("hidden", "out", np.full((3, 1), np.nan))]
    if skip:
        connections.append(Connection("in", "out", np.full((4, 1), np.nan)))
    model = CircuitModel(
        [Population("in", 4), Population("hidden", 3, 2.0, threshold), Population("out", 1, rectify=False)], connections
    )
    return model, model.weights(rng.normal(size=model.n_parameters)), rng.normal(size=(200, 4))

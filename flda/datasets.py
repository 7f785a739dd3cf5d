"""Example data: a simulation with known truth, and public data read through manifests with checksums."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

TARGET_SUM = 1e4


def t4t5_simulated(
    n_obs: int = 3557,
    n_vars: int = 2000,
    *,
    effect_size: float = 1.0,
    n_donors: int = 4,
    random_state: int = 0,
) -> AnnData:
    """Simulate T4/T5-like cells: dendrite (T4, T5) x axon (a, b, c, d), with known truth. Not real data.

    Negative-binomial counts with log-normal library sizes, dropout that falls with expression, five
    expression programmes that vary between cells whatever their type, and small donor differences. Group sizes
    are unequal. 40 genes carry a dendrite effect, 60 an axon effect, 30 an interaction and 20 both a dendrite and an
    axon effect (in proportion when ``n_vars`` is below 1,000). Gene names are neutral.

    Parameters
    ----------
    n_obs
        Cells; 3,557 as in the 48 h sample of Kurmangaliyev et al., eLife 8:e50822 (2019).
    n_vars
        Genes, up to 17,492 for whole-genome size.
    effect_size
        Standard deviation of the planted effects in natural-log expression.
    n_donors
        Donors, crossed with the design.
    random_state
        Seed; the same seed gives the same cells.

    Returns
    -------
    AnnData with log-normalised expression in ``X`` (log1p of counts per 10,000, CSR float32) and

    * ``layers["counts"]``: the counts
    * ``obs["dendrite", "axon", "subtype", "donor"]``: categorical labels
    * ``var["truth_dendrite", "truth_axon", "truth_dendrite:axon"]``: which effects a gene carries

    Examples
    --------
    >>> adata = t4t5_simulated(n_obs=400, n_vars=300)
    >>> adata.shape, list(adata.obs["subtype"].cat.categories)
    ((400, 300), ['T4a', 'T4b', 'T4c', 'T4d', 'T5a', 'T5b', 'T5c', 'T5d'])
    """
    if n_obs < 16 or n_vars < 50:
        raise ValueError(f"n_obs={n_obs}, n_vars={n_vars}: the simulation needs at least 16 cells and 50 genes.")
    rng = np.random.default_rng(random_state)
    shares = np.array([0.18, 0.12, 0.09, 0.15, 0.13, 0.10, 0.14, 0.09])
    group = np.concatenate([np.repeat(np.arange(8), 2), rng.choice(8, size=n_obs - 16, p=shares)])
    rng.shuffle(group)
    dendrite, axon = group // 4, group % 4
    donor = rng.integers(n_donors, size=n_obs)

    # the first genes of a random order carry effects; they are drawn among expressed ones
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
        counts[rng.random(counts.shape) < 0.3 / (1 + mu)] = 0  # dropout: up to 30 % of rare transcripts
        blocks.append(sp.csc_matrix(counts.astype(np.float32)))

    width = len(str(n_vars))
    obs = pd.DataFrame(
        {
            "dendrite": pd.Categorical.from_codes(dendrite, ["T4", "T5"]),
            "axon": pd.Categorical.from_codes(axon, list("abcd")),
            "subtype": pd.Categorical.from_codes(group, [f"{t}{a}" for t in ("T4", "T5") for a in "abcd"]),
            "donor": pd.Categorical.from_codes(donor, [f"donor{i + 1}" for i in range(n_donors)]),
        },
        index=[f"cell_{i:0{len(str(n_obs))}d}" for i in range(n_obs)],
    )
    var = pd.DataFrame(
        {f"truth_{name}": flags for name, flags in carries.items()},
        index=[f"gene_{i:0{width}d}" for i in range(n_vars)],
    )
    return with_log_layer(sp.hstack(blocks, format="csr"), obs, var)


def rnamix(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Designed mixtures of RNA from three cell lines: mixture x amount x protocol (Tian et al. 2019).

    636 pseudo-cells x 16,469 genes from two protocols (CEL-seq2, SORT-seq), four amounts of RNA and seven
    mixtures of H2228, H1975 and HCC827. 55 of the 56 groups are occupied. Genes are Ensembl ids and 45 ERCC
    spike-ins (``ERCC-*``); genes that one protocol lacks are zero there.

    Parameters
    ----------
    data_dir
        Folder with the files; default the environment variable ``FLDA_DATA_DIR``, else they are downloaded once
        with pooch into its cache. Checksums are verified either way.

    Returns
    -------
    AnnData with log1p of counts per 10,000 in ``X``, ``layers["counts"]``, ``obs["mixture", "amount", "protocol",
    "mix"]`` (mixture = percentages of H2228-H1975-HCC827; ``mix`` keeps the two replicates of the even mixture
    apart; amount in pg) and ``var["spike_in"]``.

    References
    ----------
    Tian L et al. Benchmarking single cell RNA-sequencing analysis pipelines using mixture control experiments.
    Nat. Methods 16:479 (2019). Data: MIT licence, GEO GSE118767.

    Examples
    --------
    >>> adata = rnamix()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (636, 16469)
    """
    parts = []
    for protocol, name in (("CEL-seq2", "celseq2"), ("SORT-seq", "sortseq")):
        counts = _read_csv(fetch("rnamix", f"RNAmix_{name}.count.csv.gz", data_dir=data_dir))
        meta = _read_csv(fetch("rnamix", f"RNAmix_{name}.metadata.csv.gz", data_dir=data_dir))
        lines = meta[["H2228_prop", "H1975_prop", "HCC827_prop"]].mul(100).round().astype(int)
        obs = pd.DataFrame(
            {
                "mixture": lines.astype(str).agg("-".join, axis=1),
                "amount": [f"{a:g}" for a in meta["mRNA_amount"]],
                "protocol": protocol,
                "mix": meta["mix"].astype(str),
            }
        )
        obs.index = f"{name}_" + meta.index.astype(str)
        parts.append((counts[meta.index], obs))
    genes = sorted(set(parts[0][0].index) | set(parts[1][0].index))
    X = sp.vstack([sp.csr_matrix(c.reindex(genes, fill_value=0).to_numpy(np.float32).T) for c, _ in parts])
    obs = pd.concat([o for _, o in parts])
    obs["amount"] = pd.Categorical(obs["amount"], sorted(set(obs["amount"]), key=float))
    for column in ("mixture", "protocol", "mix"):
        obs[column] = obs[column].astype("category")
    var = pd.DataFrame({"spike_in": [g.startswith("ERCC-") for g in genes]}, index=genes)
    return with_log_layer(X.tocsr(), obs, var)


def flyvis_connectome(data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Signed synapse counts between cell types of the fly's optic lobe, by column offset (Lappalainen et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    DataFrame with a row per pair of types and offset (2,140): ``pre, post, du, dv`` (hexagonal column offset),
    ``n_synapses`` (mean per postsynaptic cell), ``sign`` (+1, -1) and ``referenced`` (whether the sign has a source;
    the others, all +1, are a default).

    References
    ----------
    Lappalainen JK et al. Connectome-constrained networks predict neural activity across the fly visual system. Nature
    634:1132 (2024). Data: MIT licence.

    Examples
    --------
    >>> edges = flyvis_connectome()  # doctest: +SKIP
    >>> edges.groupby(["pre", "post"]).ngroups  # doctest: +SKIP
    605
    """
    content = json.loads(fetch("flyvis", "fib25-fib19_v2.2.json", data_dir=data_dir).read_text("utf-8"))
    rows = [
        (e["src"], e["tar"], du, dv, float(n), int(e["alpha"]), bool(e["alpha_references"]))
        for e in content["edges"]
        for (du, dv), n in e["offsets"]
    ]
    return pd.DataFrame(rows, columns=["pre", "post", "du", "dv", "n_synapses", "sign", "referenced"])


def flywire_optic_types(data_dir: str | os.PathLike | None = None, *, min_confidence: int = 1) -> pd.DataFrame:
    """Measured transmitters of adult fly cell types (ground-truth table of Eckstein et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.
    min_confidence
        Least confidence of a row, 1 (low) to 5.

    Returns
    -------
    DataFrame of cell types (index, several rows per type) x transmitters: 1 shown, -1 shown to be absent, 0 not tested.

    References
    ----------
    Eckstein N et al. Neurotransmitter classification from electron microscopy images at synaptic sites in Drosophila
    melanogaster. Cell 187:2574 (2024). Data: CC BY 4.0.

    Examples
    --------
    >>> table = flywire_optic_types()  # doctest: +SKIP
    >>> int(table.loc[["Mi1"], "acetylcholine"].max())  # doctest: +SKIP
    1
    """
    table = pd.read_csv(fetch("flywire_optic_types", "gt_data.csv", data_dir=data_dir))
    confidence = pd.to_numeric(table["neurotransmitter_verified_confidence"], errors="coerce")
    adult = table["species"] == "adult_drosophila_melanogaster"
    table = table[adult & (confidence >= min_confidence) & table["cell_type"].notna()].set_index("cell_type")
    return table.loc[:, "acetylcholine":].fillna(0).astype(int)


def manifests() -> dict[str, dict]:
    """The manifest of every data set that :func:`fetch` knows, by name."""
    folder = resources.files("flda") / "_manifests"
    if not folder.is_dir():  # an editable install runs from the repository
        folder = Path(__file__).parents[1] / "data_manifests"
    found = [json.loads(f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".json")]
    return {m["name"]: m for m in sorted(found, key=lambda m: m["name"])}


def fetch(name: str, file: str, *, data_dir: str | os.PathLike | None = None) -> Path:
    """Path of one file of a data set, verified against its manifest.

    Looks in ``data_dir``, else in the folder that ``FLDA_DATA_DIR`` names; then the network is never touched.
    Without either, downloads with pooch into its cache.

    Raises
    ------
    FileNotFoundError
        When the data folder lacks the file.
    ValueError
        For an unknown data set or file, or bytes that do not match the manifest.
    ImportError
        When a download is needed and pooch is not installed.
    OSError
        When the download fails.
    """
    known = manifests()
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; known: {list(known)}.")
    manifest = known[name]
    entry = next((f for f in manifest["files"] if f["name"] == file), None)
    if entry is None:
        raise ValueError(f"data set {name!r} has no file {file!r}; it has {[f['name'] for f in manifest['files']]}.")
    folder = data_dir or os.environ.get("FLDA_DATA_DIR")
    if folder:
        path = next((p for p in (Path(folder) / manifest["folder"] / file, Path(folder) / file) if p.is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{file} of data set {name!r} is not in {folder} (FLDA_DATA_DIR); looked there only."
            )
        with path.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != entry["sha256"]:
            raise ValueError(
                f"{path} does not match its checksum: sha256 {found}, expected {entry['sha256']}. Replace the file."
            )
        return path
    try:
        import pooch
    except ImportError:
        raise ImportError("downloading data needs pooch; install it with: pip install 'flda[data]'") from None
    try:
        return Path(
            pooch.retrieve(
                entry["url"],
                known_hash=f"sha256:{entry['sha256']}",
                fname=file,
                path=pooch.os_cache("flda") / name,
            )
        )
    except ValueError as error:  # pooch's wording for a checksum mismatch
        raise ValueError(f"the download of {file} does not match its checksum; try again later. ({error})") from None
    except Exception as error:  # noqa: BLE001  whatever the network does, one line
        raise OSError(
            f"could not download {entry['url']} ({type(error).__name__}); check the network, or put {file} into a "
            "folder and set FLDA_DATA_DIR to it."
        ) from None


def _sum_to_zero_effects(rng: np.random.Generator, sizes: tuple[int, ...], n_vars: int) -> np.ndarray:
    """Effects per level combination and gene that sum to zero over every factor, with unit mean square."""
    effect = rng.normal(size=(*sizes, n_vars))
    for axis in range(len(sizes)):
        effect -= effect.mean(axis=axis, keepdims=True)
    effect = effect.reshape(-1, n_vars)
    return effect / np.sqrt(np.mean(effect**2, axis=0))


def with_log_layer(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    """AnnData with log1p of counts per 10,000 in ``X`` and the counts in a layer."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    factor = np.divide(TARGET_SUM, total, out=np.zeros_like(total), where=total > 0)
    X = sp.csr_matrix(sp.diags(factor.astype(np.float32)) @ counts)
    X.data = np.log1p(X.data)
    adata = AnnData(X, obs=obs, var=var, layers={"counts": counts})
    adata.uns["log1p"] = {"base": None}
    return adata


def _read_csv(path: Path) -> pd.DataFrame:
    with gzip.open(path, "rt") as handle:
        return pd.read_csv(handle, index_col=0)

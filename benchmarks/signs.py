"""Signs from genes: the worm atlas against known transmitters, and simulated atlases with a reliability curve.

    python benchmarks/signs.py --atlas tpm.csv --truth transmitters.csv    # worm
    python benchmarks/signs.py --seeds 10                                  # simulated mouse and fly atlases

``--atlas``: class means in TPM, classes x genes (the tables of CeNGEN). ``--truth``: two columns, class and transmitter
(Glu, ACh or GABA; other classes are left out). Both are in the package wormneuroatlas 0.0.7.3 (GPL-3), which is not a
dependency: take the tables out in an environment of its own. Writes ``results/signs_<part>.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from flda.circuits import infer_signs

RESULTS = Path(__file__).parent / "results"
NEURONS = {"mouse": ["Snap25", "Syt1", "Syp", "Stmn2"], "drosophila": ["nSyb", "Syt1", "brp", "elav"]}
# kind -> sign (0: none that may be reported), expressed genes, share of the types
KINDS = {
    "mouse": {
        "Vglut1": (1, ["Slc17a7"], 0.25), "Vglut2": (1, ["Slc17a6"], 0.2),
        "GABA": (-1, ["Gad1", "Gad2", "Slc32a1"], 0.3),
        "glycine": (-1, ["Slc6a5", "Slc32a1"], 0.05), "dopamine": (0, ["Th", "Slc6a3", "Slc18a2"], 0.05),
        "co-release": (0, ["Slc17a6", "Gad1", "Gad2", "Slc32a1"], 0.03), "none": (0, [], 0.04),
        "glia": (0, ["Slc6a9"], 0.08),
    },
    "drosophila": {
        "ACh": (1, ["VAChT", "ChAT"], 0.35), "GABA": (-1, ["Gad1", "VGAT"], 0.2), "glutamate": (-1, ["VGlut"], 0.2),
        "histamine": (-1, ["Hdc"], 0.04), "ACh, dopamine": (0, ["VAChT", "ChAT", "ple", "DAT", "Vmat"], 0.03),
        "ACh with VGAT": (1, ["VAChT", "ChAT", "VGAT"], 0.1), "none": (0, [], 0.05),
        "co-release": (0, ["VAChT", "ChAT", "Gad1", "VGAT"], 0.03),
    },
}  # fmt: skip
GENES = {
    "mouse": [
        "Slc17a7", "Slc17a6", "Slc17a8", "Gad1", "Gad2", "Slc32a1", "Slc6a5", "Slc6a9", "Chat", "Slc18a3", "Th",
        "Slc6a3", "Dbh", "Tph2", "Hdc", "Slc18a2",
    ],
    "drosophila": ["VAChT", "ChAT", "Gad1", "VGAT", "VGlut", "Hdc", "ple", "DAT", "Vmat", "Tdc2", "Tbh", "Trh", "SerT"],
}  # fmt: skip


def atlas(rng: np.random.Generator, organism: str, form: str, n_types: int = 40) -> tuple[AnnData, pd.Series]:
    """Cells or class means of types with known signs; depth, cells per type, ambient RNA and thresholds vary."""
    kinds, genes = KINDS[organism], GENES[organism] + NEURONS[organism]
    n, depth, ambient = int(rng.choice([5, 15, 60])), rng.choice([500, 1500, 5000]), rng.choice([0.01, 0.05, 0.15])
    drawn = rng.choice(list(kinds), size=n_types, p=[share for *_, share in kinds.values()])
    level = pd.Series(rng.lognormal(np.log(4), 0.8, len(genes)), index=genes)
    names = [f"t{i}" for i in range(n_types)]
    size = (n_types, len(genes))
    leak = np.where(rng.random(size) < 0.02, rng.uniform(0, 0.15, size), 0.0)
    profile = pd.DataFrame(leak * level.to_numpy(), index=names, columns=genes)
    for name, kind in zip(names, drawn, strict=True):
        for gene in kinds[kind][1]:
            profile.loc[name, gene] = level[gene] * rng.lognormal(0, 0.7)
        if kind != "glia":
            profile.loc[name, NEURONS[organism]] = level[NEURONS[organism]] * rng.lognormal(0, 0.5, 4)
    profile = (1 - ambient) * profile + ambient * profile.mean()
    truth = pd.Series([kinds[kind][0] for kind in drawn], index=names)
    var = pd.DataFrame(index=[*genes, "rest"])
    if form == "means":
        counted = n * depth / 1e4
        X = rng.poisson(profile.to_numpy() * counted) / counted * 100
        X[rng.choice([0, 5, 20]) > X] = 0  # TPM below a threshold are stored as zero
        X = np.hstack([X, 1e6 - X.sum(axis=1, keepdims=True)])
        return AnnData(X, obs=pd.DataFrame({"type": names}, index=names), var=var), truth
    total = rng.lognormal(np.log(depth), 0.4, (n_types * n, 1))
    rate = profile.to_numpy().repeat(n, axis=0)
    X = rng.poisson(total * rate * rng.gamma(2, 0.5, rate.shape) / 1e4)
    X[rng.random(X.shape) < 0.2] = 0  # dropout
    X = np.hstack([X, rng.poisson(total)]).astype(float)
    return AnnData(
        X, obs=pd.DataFrame({"type": np.repeat(names, n)}, index=np.arange(len(X)).astype(str)), var=var
    ), truth


def one_line_rule(adata: AnnData, organism: str) -> pd.Series:
    """Sign of the transmitter whose genes have the largest share of their own maximum over types."""
    X = pd.DataFrame(adata.X, index=adata.obs["type"].to_numpy(), columns=adata.var_names)
    share = X.div(X.sum(axis=1), axis=0).groupby(level=0).mean()
    share = share / share.max().replace(0, 1)
    if organism == "mouse":
        positive = share[["Slc17a7", "Slc17a6", "Slc17a8"]].max(axis=1)
        negative = (share[["Gad1", "Gad2"]].max(axis=1) + share["Slc32a1"]) / 2
    else:
        positive, negative = share["VAChT"], share[["Gad1", "VGlut", "Hdc"]].max(axis=1)
    return np.sign(positive - negative)


def simulated(n_seeds: int) -> None:
    """Share of right types by reported probability, and signs of opposite kind, here and by the one-line rule."""
    rows = []
    for seed in range(n_seeds):
        for organism in KINDS:
            for form in ("cells", "means"):
                adata, truth = atlas(np.random.default_rng([200 + seed, len(organism), len(form)]), organism, form)
                unit = "tpm" if form == "means" else "counts"
                table = infer_signs(adata, "type", organism=organism, unit=unit).loc[truth.index]
                p = table[["p_positive", "p_negative"]].to_numpy()
                rows.append(
                    pd.DataFrame(
                        {
                            "seed": seed, "organism": organism, "form": form, "truth": truth, "sign": table["sign"],
                            "rule": one_line_rule(adata, organism)[truth.index], "probability": p.max(axis=1),
                            "right": np.where(p[:, 0] >= p[:, 1], 1, -1) == truth,
                        }
                    )
                )  # fmt: skip
    found = pd.concat(rows)
    found.to_csv(RESULTS / "signs_simulated.csv", index=False, float_format="%.5g")
    edges = [0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
    curve = found.groupby(pd.cut(found["probability"], edges), observed=True)
    print(curve.agg(n=("right", "size"), probability=("probability", "mean"), right=("right", "mean")).round(3))
    signed = found[found["truth"] != 0]
    for what in ("sign", "rule"):
        n = int(found[what].isin([1, -1]).sum())
        right, opposite = (int((signed[what] == s * signed["truth"]).sum()) for s in (1, -1))
        print(f"{what}: {right} right and {opposite} opposite of {len(signed)}; called {n} of {len(found)}")
    print(
        "opposite where the rule is right:",
        int(((signed["rule"] == signed["truth"]) & (signed["sign"] == -signed["truth"])).sum()),
    )


def worm(atlas_file: Path, truth_file: Path) -> None:
    """Signs of classes with one fast transmitter."""
    X = pd.read_csv(atlas_file, index_col=0)
    truth = pd.read_csv(truth_file, index_col=0).iloc[:, -1].map({"Glu": 1.0, "ACh": 1.0, "GABA": -1.0}).dropna()
    adata = AnnData(
        X.to_numpy(float), obs=pd.DataFrame({"type": X.index}, index=X.index), var=pd.DataFrame(index=X.columns)
    )
    table = infer_signs(adata, "type", organism="celegans", unit="tpm").loc[truth.index]
    table.drop(columns="marker_levels").assign(truth=truth).to_csv(RESULTS / "signs_worm.csv", float_format="%.4g")
    right, wrong = (int((table["sign"] == s * truth).sum()) for s in (1, -1))
    print(f"{len(truth)} classes: {right} right, {wrong} wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--atlas", type=Path)
    parser.add_argument("--truth", type=Path)
    args = parser.parse_args()
    if args.atlas:
        worm(args.atlas, args.truth)
    if args.seeds:
        simulated(args.seeds)


if __name__ == "__main__":
    main()

"""Numbers, trends and contrasts: the level of their tests, and what they find on two real data sets.

    FLDA_DATA_DIR=... python benchmarks/designs.py [level] [uch] [mammary] [--studies 1000]

* level: share of simulated studies without the tested effect whose p-value is at most .05 (nominal .05), 30 genes,
  199 flips. Other effects are present, and groups differ in size and in variance by a factor of 4.
* uch: NMR spectra of urine to which citrate and hippurate were added. Both are called numbers. The signals of citrate
  are at 2.5 to 2.7 ppm, and those of hippurate at 7.5 to 7.9 and 3.98 ppm.
* mammary: bulk counts. The simple effects of pregnant against lactating mice in basal and in luminal cells are
  contrasts. Their F are compared with those of edgeR's quasi-likelihood tests, which the folder of the data holds. Log
  counts per million are normalised by their totals, or by medians of ratios (Anders and Huber, Genome Biol. 11:R106,
  2010), which a few very high genes do not move.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import spearmanr

import flda
from flda import FLDA
from flda._logging import quiet
from flda.inference import effect_tests

OUT = Path(__file__).parent / "results"
N_GENES, N_FLIPS, ALPHA = 30, 199, 0.05
TYPES = ("basal", "luminal")


def trend(rng):
    """A line over 4 doses; the age, of 5 values, acts by its square and is nuisance; the dose differs with the age."""
    rows = [(dose, age) for dose in range(4) for age in range(5) for _ in range(2 + (dose + age) % 4)]
    y = pd.DataFrame(rows, columns=["dose", "age"])
    X = rng.normal(size=(len(y), N_GENES)) * np.sqrt(1 + y["dose"].to_numpy())[:, None]
    X += (y["age"].to_numpy() - 1.0)[:, None] ** 2 * rng.normal(size=N_GENES)
    model = FLDA(nuisance=["age"], numeric={"dose": 1, "age": 2})
    return model, X, y, None, "dose.linear"


def trend_of_donors(rng):
    """A line over 4 doses within each of 7 donors, which differ."""
    rows = [(donor, dose) for donor in range(7) for dose in range(4) for _ in range(3 + (donor + dose) % 5)]
    y = pd.DataFrame(rows, columns=["donor", "dose"])
    samples = rng.normal(size=(7, 4, N_GENES)) + rng.normal(size=(7, 1, N_GENES))
    X = rng.normal(size=(len(y), N_GENES)) + samples[y["donor"], y["dose"]]
    return FLDA(numeric={"dose": "trend"}), X, y[["dose"]], y["donor"].to_numpy(), "dose.linear"


def contrast(rng):
    """A simple effect of type B; the other types have it, and the variances of the groups differ."""
    rows = [(t, c) for t in "BTM" for c in ("ctrl", "stim") for _ in range({"B": 6, "T": 15, "M": 30}[t])]
    y = pd.DataFrame(rows, columns=["type", "condition"])
    X = rng.normal(size=(len(y), N_GENES))
    stim = (y["condition"] == "stim").to_numpy()
    X[stim] *= 2
    X[stim & (y["type"] != "B").to_numpy()] += rng.normal(size=N_GENES)
    return FLDA(contrasts=IN_B), X, y, None, "stim in B"


IN_B = {"stim in B": ({"type": "B", "condition": "stim"}, {"type": "B", "condition": "ctrl"})}


def contrast_of_donors(rng):
    """The same with conditions within 8 donors of two genotypes, in mutants only; samples of a donor differ."""
    rows = [(d, t, c) for d in range(8) for t in "BT" for c in ("ctrl", "stim") for _ in range(4 + d % 4)]
    y = pd.DataFrame(rows, columns=["donor", "type", "condition"])
    y["genotype"] = np.where(y["donor"] < 4, "wt", "mut")
    codes = y.groupby(["donor", "type", "condition"]).ngroup().to_numpy()
    X = rng.normal(size=(len(y), N_GENES)) + rng.normal(size=(codes.max() + 1, N_GENES))[codes]
    X[(y["condition"] == "stim").to_numpy() & (y["genotype"] == "wt").to_numpy()] += rng.normal(size=N_GENES)
    pair = tuple({**side, "genotype": "mut"} for side in IN_B["stim in B"])
    return FLDA(contrasts={"stim in B": pair}), X, y.drop(columns="donor"), y["donor"].to_numpy(), "stim in B"


def part(rng):
    """The estimable part of an interaction of 3 x 4 groups, of which 2 are empty."""
    rows = [
        (a, b) for a in range(3) for b in range(4) if (a, b) not in [(0, 3), (2, 1)] for _ in range(4 + (a + b) % 5)
    ]
    y = pd.DataFrame(rows, columns=["a", "b"]).astype(str)
    X = rng.normal(size=(len(y), N_GENES)) * np.where(y["a"] == "0", 2.0, 1.0)[:, None]
    X += rng.normal(size=(3, N_GENES))[y["a"].astype(int)] + rng.normal(size=(4, N_GENES))[y["b"].astype(int)]
    return FLDA(interactions="estimable"), X, y, None, "a:b"


STUDIES = {
    "trend, nuisance quadratic": trend, "trend within donors": trend_of_donors, "simple effect": contrast,
    "simple effect within donors": contrast_of_donors, "part of an interaction": part,
}  # fmt: skip


def level(n_studies: int) -> pd.DataFrame:
    """Reject at ALPHA: for the effect, from the sum and the maximum of F, and per gene."""
    rows = []
    for name, study in STUDIES.items():
        start, found = time.perf_counter(), []
        for seed in range(n_studies):
            model, X, y, donor, effect = study(np.random.default_rng(seed))
            with quiet():
                tests = effect_tests(model, X, y, donor, effects=[effect], n_resamples=N_FLIPS, random_state=seed)
            row = tests.table.iloc[0]
            found.append([row["pval"], row["pval_sum"], row["pval_max"], (tests.genes["pval"] <= ALPHA).mean()])
        p = np.array(found)
        shares = {c: np.mean(p[:, j] <= ALPHA) for j, c in enumerate(["effect", "sum", "maximum"])}
        rows.append({"study": name, **shares, "genes": p[:, 3].mean(), "seconds": time.perf_counter() - start})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def in_region(substance: str, ppm: np.ndarray) -> np.ndarray:
    """Whether bins lie where a substance has its signals."""
    citrate = (ppm >= 2.5) & (ppm <= 2.7)
    return citrate if substance == "citrate" else ((ppm >= 7.45) & (ppm <= 7.94)) | (np.abs(ppm - 3.98) < 0.05)


def uch() -> pd.DataFrame:
    """The six leading bins of the axes of both substances, with all bins and with six selected ones."""
    adata, names = flda.datasets.uch(), ("hippurate_dose", "citrate_dose")
    flda.tl.flda(adata, [*names, "time"], numeric=list(names), interactions=None)
    flda.tl.rank_genes(adata, n_genes=6)
    flda.tl.certify(adata)
    certificate = flda.get.certificate_df(adata).set_index(["effect", "genes"])
    rows = []
    for name in names:
        effect = f"{name}.linear"
        axis = adata.varm["flda"][:, flda.get.axes_df(adata)["effect"].tolist().index(effect)]
        score = pd.Series(np.abs(axis * adata.var["flda_within_sd"].to_numpy()), adata.var_names)
        F = pd.Series(adata.varm["flda_F"][:, adata.uns["flda"]["effects"].index(effect)], adata.var_names)
        selected = flda.get.rank_genes_df(adata, effect).query("selected")["gene"]
        for genes, bins in (("all", score.nlargest(6).index), ("selected", selected), ("F", F.nlargest(6).index)):
            ppm = bins.to_numpy(dtype=float)
            row = {"axis": effect, "genes": genes, "in_region": in_region(name.removesuffix("_dose"), ppm).sum()}
            row["bins"] = " ".join(f"{v:.2f}" for v in ppm)
            if genes != "F":
                of_axis = certificate.loc[(effect, genes)]
                row |= {c: of_axis[c] for c in ("snr", "se_snr", "crosstalk", "se_crosstalk")}
            rows.append(row)
    return pd.DataFrame(rows)


def size_factors(counts: np.ndarray) -> np.ndarray:
    """Medians of the ratios of a sample to the geometric mean of all samples, over genes that all of them express."""
    logs = np.log(counts[:, (counts > 0).all(axis=0)])
    size = np.exp(np.median(logs - logs.mean(axis=0), axis=1))
    return np.asarray(size / np.exp(np.log(size).mean()))


def prepared(normalise: str) -> AnnData:
    """Log counts per million of the genes with more than one count per million in two samples or more."""
    adata = flda.datasets.mammary()
    counts = np.asarray(adata.layers["counts"].todense(), dtype=float)
    total = counts.sum(axis=1)
    expressed = ((counts / total[:, None] * 1e6) > 1).sum(axis=0) >= 2
    size = total if normalise == "total" else size_factors(counts) * np.exp(np.log(total).mean())
    out = adata[:, expressed].copy()
    del out.obs["total_counts"]  # all samples have many counts, so depth does not matter
    out.X = np.log1p(counts[:, expressed] / size[:, None] * 1e6)
    return out


PAIRS = {
    f"pregnant or lactating, {t}": ({"cell_type": t, "status": "pregnant"}, {"cell_type": t, "status": "lactating"})
    for t in TYPES
}


def agreement(adata: AnnData) -> pd.DataFrame:
    """Compare with edgeR on shared genes: rank correlation of F and of changes, and overlap of the first 100 genes."""
    folder, rows = Path(os.environ["FLDA_DATA_DIR"]) / "mammary", []
    groups = adata.to_df().groupby([adata.obs["cell_type"], adata.obs["status"]], observed=True).mean()
    for name, t in zip(PAIRS, TYPES, strict=True):
        edger = pd.read_csv(folder / f"R_qlf_{t}_preg_vs_lact.csv", dtype={"GeneID": str}).set_index("GeneID")
        F = pd.Series(adata.varm["flda_F"][:, adata.uns["flda"]["effects"].index(name)], adata.var_names).dropna()
        shared = edger.index.intersection(F.index)
        change = (groups.loc[(t, "pregnant")] - groups.loc[(t, "lactating")])[shared]
        first = set(F[shared].nlargest(100).index) & set(edger.loc[shared, "F"].nlargest(100).index)
        rows.append(
            {
                "contrast": name,
                "genes": len(shared),
                "F": spearmanr(F[shared], edger.loc[shared, "F"])[0],
                "change": spearmanr(change, edger.loc[shared, "logFC"])[0],
                "first_100": len(first),
            }
        )
    return pd.DataFrame(rows)


def mammary() -> pd.DataFrame:
    """Agreement with edgeR, tests and certificates, for both normalisations."""
    tables = []
    for normalise in ("total", "ratios"):
        adata = prepared(normalise)
        flda.tl.flda(adata, ["cell_type", "status"], contrasts=PAIRS)
        with quiet():
            flda.tl.effect_tests(adata, effects=list(PAIRS), n_resamples=499)
            flda.tl.certify(adata)
        table = agreement(adata).assign(normalised=normalise).set_index("contrast")
        table["pval"] = flda.get.effect_tests_df(adata).set_index("effect")["pval"]
        certificate = flda.get.certificate_df(adata).set_index("effect")
        tables.append(table.join(certificate[["snr", "se_snr", "crosstalk"]]).reset_index())
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["level", "uch", "mammary"])
    parser.add_argument("--studies", type=int, default=1000)
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    tables = {"level": lambda: level(args.studies), "uch": uch, "mammary": mammary}
    for name in args.parts:
        table = tables[name]()
        table.to_csv(OUT / f"designs_{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
        print(table.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()

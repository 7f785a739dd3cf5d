"""Numbers, trends and contrasts: the level of their tests, and what they find on two real data sets.

    FLDA_DATA_DIR=... python benchmarks/designs.py [level] [uch] [mammary] [l1000] [paired] [cells] [--studies 1000]
    python benchmarks/designs.py level --only "one unit per group" --studies 2000  # other rows of the table are kept

* level: share of simulated studies without the tested effect whose p-value is at most .05 (nominal .05), 30 genes,
  199 flips. Other effects are present, and groups differ in size and in variance by a factor of 4.
* uch: NMR spectra of urine to which citrate and hippurate were added. Both are called numbers. The signals of citrate
  are at 2.5 to 2.7 ppm, and those of hippurate at 7.5 to 7.9 and 3.98 ppm.
* mammary: bulk counts. The simple effects of pregnant against lactating mice in basal and in luminal cells are
  contrasts. Their F are compared with those of edgeR's quasi-likelihood tests, which the folder of the data holds. Log
  counts per million are normalised by their totals, or by medians of ratios (Anders and Huber, Genome Biol. 11:R106,
  2010), which a few very high genes do not move.
* l1000: A375 cells with 55 compounds at 6 doses, one well each (two wells are lacking). The dose is a trend, and the
  noise what the effects leave; against the plain factors, at the shrinkage that the fit to all wells chooses.
  Certificates with one well, and with a tenth of the wells, left out at a time, and compounds whose scores on the first
  dose axis, without their tenth of the wells, rise with the dose (Spearman correlation .8 or more).
* paired: 8 donors x 2 conditions x 3 types with 5 to 120 cells per sample, analysed as cells with donors and as
  pseudobulk samples with the donors as blocks, weighted by their cells or not. Share of null studies with p <= .05, and
  rank correlation of the F of genes for the condition where some genes differ. In one study donors respond to the
  condition each in their own way, with the mean zero.
* cells: a fit of many cells with and without a covariate: ratios of time and memory.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import spearmanr

import flda
from flda import FLDA
from flda._logging import quiet
from flda.inference import certify, effect_tests

OUT = Path(__file__).parent / "results"
N_GENES, N_FLIPS, ALPHA = 30, 199, 0.05
N_SHARES = 10  # shares of the wells of l1000 that are left out
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
    """The same with conditions within 14 donors of two genotypes, in mutants only; samples of a donor differ."""
    rows = [(d, t, c) for d in range(14) for t in "BT" for c in ("ctrl", "stim") for _ in range(4 + d % 4)]
    y = pd.DataFrame(rows, columns=["donor", "type", "condition"])
    y["genotype"] = np.where(y["donor"] < 7, "wt", "mut")
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


def unreplicated(rng):
    """One unit for each of 12 x 6 groups; the variance grows with the levels of the other factor by a factor of 4."""
    y = pd.DataFrame([(a, b) for a in range(12) for b in range(6)], columns=["a", "b"]).astype(str)
    X = rng.normal(size=(len(y), N_GENES)) * np.sqrt(1 + y["b"].astype(float).to_numpy() * 0.6)[:, None]
    return FLDA(), X + rng.normal(size=(6, N_GENES))[y["b"].astype(int)], y, None, "a"


def unreplicated_trend(rng):
    """A line over 6 doses of 12 drugs, one unit each, whose own lines are in the fit."""
    y = pd.DataFrame([(a, b) for a in range(12) for b in range(6)], columns=["drug", "dose"])
    X = rng.standard_t(5, size=(len(y), N_GENES)) + rng.normal(size=(12, N_GENES))[y["drug"]]
    return FLDA(numeric={"dose": 1}), X, y.assign(drug=y["drug"].astype(str)), None, "drug:dose.linear"


STUDIES = {
    "trend, nuisance quadratic": trend, "trend within donors": trend_of_donors, "simple effect": contrast,
    "simple effect within donors": contrast_of_donors, "part of an interaction": part,
    "one unit per group": unreplicated, "lines of single units": unreplicated_trend,
}  # fmt: skip


def level(n_studies: int, only: Sequence[str] = ()) -> pd.DataFrame:
    """Reject at ALPHA: for the effect, from the sum and the maximum of F, and per gene; keep rows that are not run."""
    table, path = pd.DataFrame(columns=["study"]), OUT / "designs_level.csv"
    if only and path.exists():
        table = pd.read_csv(path)
    for name in only or STUDIES:
        study, found = STUDIES[name], []
        for seed in range(n_studies):
            model, X, y, donor, effect = study(np.random.default_rng(seed))
            with quiet():
                tests = effect_tests(model, X, y, donor, effects=[effect], n_resamples=N_FLIPS, random_state=seed)
            row = tests.table.iloc[0]
            found.append([row["pval"], row["pval_sum"], row["pval_max"], (tests.genes["pval"] <= ALPHA).mean()])
        p = np.array(found)
        shares = {c: np.mean(p[:, j] <= ALPHA) for j, c in enumerate(["effect", "sum", "maximum"])}
        shares |= {"genes": p[:, 3].mean(), "studies": n_studies}
        row = pd.DataFrame([{"study": name, **shares}])
        table = pd.concat([table[table["study"] != name], row], ignore_index=True)
        print(row.to_string(index=False), flush=True)
    return table


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


def l1000() -> pd.DataFrame:
    """Axes of dose as a trend and as a plain factor: certificate without single wells, and rising compounds."""
    adata, names, rows = flda.datasets.l1000_a375(), ["drug", "log_dose"], []
    adata = adata[adata.obs["kind"] == "compound"].copy()
    adata.obs["drug"] = adata.obs["drug"].astype(str).astype("category")
    for name, numeric in (("trend", {"log_dose": "trend"}), ("plain factors", None)):
        with quiet():
            flda.tl.flda(adata, names, numeric=numeric)
            fit, X = adata.uns["flda"]["fit"], np.asarray(adata.X, dtype=float)
            model = FLDA(numeric=numeric, shrinkage=fit["shrinkage"])
            wells, shares = (certify(model, X, adata.obs[names], n_folds=n) for n in (adata.n_obs, N_SHARES))
            flda.tl.held_out_scores(adata, n_folds=N_SHARES)
        scores = pd.DataFrame(adata.obsm["X_flda_held_out"], adata.obs_names, flda.get.axes_df(adata)["axis"])
        measures, shares = ["snr", "se_snr", "crosstalk", "se_crosstalk"], shares.set_index("axis")
        for axis, of_axis in wells.groupby("effect", sort=False).head(1).set_index("axis").iterrows():
            row = {"fit": name, "shrinkage": fit["shrinkage"], "df": fit["df_residual"], "axis": axis}
            row |= {c: of_axis[c] for c in measures} | {f"{c}_shares": shares.loc[axis, c] for c in measures}
            if axis in ("log_dose.linear_1", "log_dose_1"):
                rho = slopes(scores[axis], adata.obs)
                row |= {"drugs": len(rho), "rising": (rho >= 0.8).sum(), "monotone": (rho > 1 - 1e-9).sum()}
            rows.append(row)
    table = pd.DataFrame(rows)
    print_l1000(table)
    return table


def slopes(scores: pd.Series, obs: pd.DataFrame) -> pd.Series:
    """Correlate scores with the doses of each compound; positive for most compounds."""
    of_drugs = pd.DataFrame({"s": scores, "d": obs["log_dose"]}).groupby(obs["drug"], observed=True)
    rho = of_drugs.apply(lambda t: spearmanr(t["s"], t["d"])[0], include_groups=False)
    return rho * np.sign(rho.median())


def print_l1000(table: pd.DataFrame) -> None:
    """Print the table of RESULTS.md."""
    print("| fit | df of the noise | axis | SNR | cross-talk | SNR, tenths | cross-talk, tenths |")
    print("|---|---|---|---|---|---|---|")
    for _, row in table.iterrows():
        pairs = [(f"{m}{part}", f"se_{m}{part}") for part in ("", "_shares") for m in ("snr", "crosstalk")]
        values = " | ".join(f"{row[m]:.2f} ± {row[se]:.2f}" for m, se in pairs)
        print(f"| {row['fit']} | {row['df']} | {row['axis']} | {values} |")
    for _, row in table.dropna(subset=["drugs"]).iterrows():
        counts = f"rising in {row['rising']:.0f} of {row['drugs']:.0f}, monotone in {row['monotone']:.0f}"
        print(f"{row['fit']}, shrinkage {row['shrinkage']:.2f}: {row['axis']} {counts}")


def paired_study(rng, *, n_changed: int, response: float = 0.0, between: float = 0.3) -> AnnData:
    """Cells of 8 donors x 2 conditions x 3 types; donors differ, and so may their responses, which types share."""
    keys = [(d, t, c) for d in range(8) for t in "BTM" for c in ("ctrl", "stim")]
    counts = rng.integers(5, 121, len(keys))
    obs = pd.DataFrame(keys, columns=["donor", "type", "condition"]).iloc[np.repeat(np.arange(len(keys)), counts)]
    obs.index = [f"cell{i}" for i in range(len(obs))]
    code = np.repeat(np.arange(len(keys)), counts)
    of_samples = between * rng.normal(size=(len(keys), N_GENES))
    of_samples += rng.normal(size=(8, N_GENES))[[d for d, *_ in keys]]
    change = np.zeros(N_GENES)
    change[:n_changed] = rng.normal(size=n_changed)
    of_donors = response * rng.normal(size=(8, N_GENES))
    of_samples += np.array([c == "stim" for *_, c in keys])[:, None] * (change + of_donors[[d for d, *_ in keys]])
    of_samples += rng.normal(size=(3, N_GENES))[["BTM".index(t) for _, t, _ in keys]]
    return AnnData(of_samples[code] + rng.normal(size=(len(obs), N_GENES)), obs)


def samples_of(adata: AnnData) -> AnnData:
    """Means of the cells of every sample, and their number."""
    keys = ["donor", "type", "condition"]
    groups = adata.to_df().groupby([adata.obs[k] for k in keys], observed=True)
    obs = groups.size().rename("n_cells").reset_index()
    return AnnData(groups.mean().to_numpy(), obs.set_index(obs.index.astype(str)))


def paired(n_studies: int) -> pd.DataFrame:
    """Level, power and agreement of cells with donors and of pseudobulk samples."""
    factors, rows = ["type", "condition"], []
    for n_changed, response in ((0, 0.0), (0, 0.3), (15, 0.0)):
        found = []
        for seed in range(n_studies if n_changed == 0 else max(n_studies // 5, 1)):
            cells = paired_study(np.random.default_rng(seed), n_changed=n_changed, response=response)
            samples = samples_of(cells)
            y = samples.obs[[*factors, "donor", "n_cells"]].assign(donor=lambda t: t["donor"].astype(str))
            block = {"nuisance": ["donor"], "interactions": ["type:condition"]}
            fits = {
                "cells": (FLDA(), cells.X, cells.obs[factors], cells.obs["donor"].to_numpy()),
                "samples": (FLDA(error="residual", **block), samples.X, y.drop(columns="n_cells"), None),
                "weighted": (FLDA(weights="n_cells", **block), samples.X, y, None),
            }
            with quiet():
                tests = {
                    name: effect_tests(*args, effects=["condition"], n_resamples=N_FLIPS, random_state=seed)
                    for name, args in fits.items()
                }
            F = {name: t.genes["statistic"].to_numpy() for name, t in tests.items()}
            row = {f"effect, {name}": t.table["pval"].iloc[0] <= ALPHA for name, t in tests.items()}
            some = slice(n_changed or None)
            row |= {f"genes, {name}": (t.genes["pval"] <= ALPHA)[some].mean() for name, t in tests.items()}
            row |= {f"rho, {n}": spearmanr(F["cells"], F[n])[0] for n in ("samples", "weighted")}
            found.append(row)
        rows.append({"changed": n_changed, "response": response, "studies": len(found), **pd.DataFrame(found).mean()})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def many_cells(n: int) -> pd.DataFrame:
    """CPU time and peak memory of a fit of n x 1,000 cells with up to 50 counts, with and without a covariate."""
    rng, rows = np.random.default_rng(0), []
    genes = np.sort(rng.integers(0, 1000, (n, 50), dtype=np.int32), axis=1).ravel()
    X = sp.csr_matrix((rng.random(len(genes), dtype=np.float32), genes, np.arange(0, len(genes) + 1, 50)), (n, 1000))
    X.sum_duplicates()
    y = pd.DataFrame({"a": rng.integers(0, 2, n), "b": rng.integers(0, 4, n)}).astype(str)
    y["age"] = rng.normal(size=n)
    X.data += np.repeat((y["a"] == "1").to_numpy(), np.diff(X.indptr)).astype(np.float32)
    size = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 1e6
    for name, columns, options in (
        ("without", ["a", "b"], {}), ("with", ["a", "b", "age"], {"nuisance": ["age"], "numeric": ["age"]}),
    ):  # fmt: skip
        with quiet():
            FLDA(**options).fit(X[:20_000], y[columns][:20_000])  # compiles
        tracemalloc.start()
        start = time.process_time()
        with quiet():
            FLDA(**options).fit(X, y[columns])
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        rows.append({"covariate": name, "cells": n, "data_MB": size, "cpu_seconds": seconds, "peak_MB": peak})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["level", "uch", "mammary"])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", nargs="+", default=[], choices=STUDIES, help="studies of the part level")
    parser.add_argument("--cells", type=int, default=1_000_000)
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    tables = {
        "level": lambda: level(args.studies, args.only), "uch": uch, "mammary": mammary, "l1000": l1000,
        "paired": lambda: paired(args.studies), "cells": lambda: many_cells(args.cells),
    }  # fmt: skip
    for name in args.parts:
        table = tables[name]()
        table.to_csv(OUT / f"designs_{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
        print(table.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()

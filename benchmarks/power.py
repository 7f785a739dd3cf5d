"""Accuracy of flda.simulate.power: predicted intervals against new studies that are simulated from the truth.

    FLDA_DATA_DIR=... python benchmarks/power.py [--pilots 2] [--studies 16]

A truth is a fitted model of counts: of the simulated T4/T5 cells (80 genes, effects of half the default size, with
donors), and of the RNA mixtures (80 genes, protocol x mixture, main effects). Pilots of 15 cells per group are drawn
from it. From each pilot, purity and stability of studies of 10 and 40 cells per group are predicted and compared with
studies that are drawn from the truth itself. ``covered``: share of their values inside the predicted 90 % interval.
``plug-in``: the same prediction from the group means of the pilot as observed, without their uncertainty and without
the factorial prior.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

import flda
from flda._logging import quiet
from flda.simulate import CountModel, _power, fit_counts

OUT = Path(__file__).parent / "results"
SIZES, N_PILOT, N_GENES, SHRINKAGE = (10, 40), 15, 10, 0.5
KEYS = ["n_cells", "effect", "measure"]


def t4t5() -> tuple[CountModel, dict]:
    adata = flda.datasets.t4t5_simulated(1600, 80, effect_size=0.5)
    options = {"factors": ["dendrite", "axon"], "donor": "donor"}
    return fit_counts(adata, **options), {**options, "n_donors": [4]}


def rnamix() -> tuple[CountModel, dict]:
    adata = flda.datasets.rnamix()
    top = np.sort(np.argsort(-np.asarray(adata.layers["counts"].mean(axis=0)).ravel())[50:130])
    options = {"factors": ["protocol", "mixture"], "interactions": None}
    with quiet():
        return fit_counts(adata[:, top].copy(), **options), options


TRUTHS = {"t4t5": t4t5, "rnamix": rnamix}


def realised(truth: CountModel, donor: str | None, n_donors: int, n_studies: int) -> pd.DataFrame:
    """Draw studies from the truth and measure them as flda.simulate.power does."""
    interactions = [e.name for e in truth.design.effects if len(e) > 1] or None
    options = {"interactions": interactions, "nuisance": truth.design.nuisance, "random_state": 0}
    options |= {"numeric": None, "contrasts": None}
    test = _power._cells(truth, 50, 50 if donor else 1, 1, "test")
    rows = []
    for study in range(n_studies):
        for n in SIZES:
            seeds = np.random.SeedSequence([99, study, n]).generate_state(2)
            pair = [
                _power._study(
                    _power._cells(truth, n, n_donors, s, "study"), test, truth.factors, options,
                    donor=donor, n_genes=N_GENES, shrinkage=SHRINKAGE,
                )
                for s in seeds
            ]  # fmt: skip
            rows += _power._rows(pair, study, n, n_donors)
    return pd.DataFrame(rows)


def plug_in(model: CountModel, rng) -> CountModel:
    """Replace the draw of the group means by the observed means of the pilot."""
    means, _ = model.means._data
    table = model.design.table
    coefficients = {e: b @ means for e, b in model.design.contrasts.items()}
    fitted = sum(table.coding(e) @ b for e, b in coefficients.items())
    intercept = (means - fitted).mean(axis=0)
    return dataclasses.replace(
        model, means=dataclasses.replace(model.means, intercept=intercept, coefficients=coefficients)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pilots", type=int, default=2)
    parser.add_argument("--studies", type=int, default=16)
    args = parser.parse_args()
    rows = []
    for name, make in TRUTHS.items():
        truth, options = make()
        donor = options.get("donor")
        fresh = realised(truth, donor, options.get("n_donors", [1])[0], args.studies).groupby(KEYS)["value"]
        print(f"{name}: realised", flush=True)
        for pilot in range(args.pilots):
            data = _power._cells(truth, N_PILOT, 4, 1000 + pilot, "pilot")
            for kind in ("posterior", "plug-in")[: 2 if pilot == 0 else 1]:
                draw = plug_in if kind == "plug-in" else CountModel.draw
                with mock.patch.object(CountModel, "draw", draw), quiet():
                    found = _power.power(
                        data,
                        n_cells=SIZES,
                        n_genes=N_GENES,
                        n_studies=args.studies,
                        shrinkage=SHRINKAGE,
                        random_state=pilot,
                        **options,
                    )
                for row in found.curves.itertuples():
                    values = fresh.get_group((row.n_cells, row.effect, row.measure))
                    inside = ((values >= row.lower) & (values <= row.upper)).mean()
                    rows.append(
                        {"truth": name, "pilot": pilot, "kind": kind, "n_cells": row.n_cells, "effect": row.effect,
                         "measure": row.measure, "median": row.median, "lower": row.lower, "upper": row.upper,
                         "realised": values.median(), "realised_lower": values.quantile(0.05),
                         "realised_upper": values.quantile(0.95), "covered": inside}
                    )  # fmt: skip
                pd.DataFrame(rows).to_csv(OUT / "power.csv", index=False, float_format="%.4g", lineterminator="\n")
                print(f"{name}: pilot {pilot}, {kind}", flush=True)
    report()


def report() -> None:
    """Print the coverage and draw the figure, from the CSV."""
    table = pd.read_csv(OUT / "power.csv")
    table["within"] = (table["realised"] >= table["lower"]) & (table["realised"] <= table["upper"])
    print(table.groupby(["truth", "kind", "measure"])[["covered", "within"]].mean().round(2).to_string())
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharey=True)
    shades = dict(zip(SIZES, sns.color_palette("colorblind", len(SIZES)), strict=True))
    table = table[table["kind"] == "posterior"]
    for ax, measure in zip(axes, ("purity", "stability"), strict=True):
        part = table[table["measure"] == measure]
        for n, shade in shades.items():
            for truth, marker in (("t4t5", "o"), ("rnamix", "s")):
                own = part[(part["n_cells"] == n) & (part["truth"] == truth)]
                ax.errorbar(
                    own["median"], own["realised"],
                    xerr=[own["median"] - own["lower"], own["upper"] - own["median"]],
                    yerr=[own["realised"] - own["realised_lower"], own["realised_upper"] - own["realised"]],
                    fmt=marker, color=shade, markersize=5, elinewidth=0.6, alpha=0.8, label=f"{truth}, {n} cells",
                )  # fmt: skip
        ax.plot([0, 1], [0, 1], color="0.5", ls=":", lw=1)
        ax.set(title=measure, xlabel="predicted from a pilot", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes[0].set_ylabel("realised in new studies")
    axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    sns.despine(fig)
    fig.savefig(OUT / "power.png", dpi=130)


if __name__ == "__main__":
    main()

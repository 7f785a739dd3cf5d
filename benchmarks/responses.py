"""Donors that respond differently: how often tests of pseudobulk samples reject wrongly, and how often they warn.

    python benchmarks/responses.py [--studies 200]

The studies are those of the part ``paired`` of ``designs.py``: 8 donors x 2 conditions x 3 types, 30 genes, and no
effect of the condition on average. Samples of all types of a donor share its response to the condition. They are fitted
with the donors as blocks. ``donors`` has the same samples with ``donor=``, which compares the contrasts of donors.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from designs import ALPHA, N_FLIPS, OUT, paired_study, samples_of

from flda import FLDA
from flda._design.effects import Effect
from flda._error.responses import LARGER, shared_responses
from flda._logging import quiet
from flda.inference import effect_tests

RESPONSES = (0.0, 0.15, 0.3)  # standard deviation of the responses of donors; samples have .3, and cells 1
BLOCK = {"nuisance": ["donor"], "interactions": ["type:condition"], "error": "residual"}


def study(response: float, seed: int) -> list[dict]:
    """Return whether the condition is rejected, and whether a warning is given, for each kind of fit."""
    samples = samples_of(paired_study(np.random.default_rng(seed), n_changed=0, response=response))
    y, X, out = samples.obs.assign(donor=samples.obs["donor"].astype(str)), samples.X, []
    fits = {"samples": FLDA(**BLOCK), "weighted": FLDA(weights="n_cells", **BLOCK), "donors": FLDA()}
    for name, model in fits.items():
        columns = ["type", "condition", *(["donor"] if name != "donors" else [])]
        labels = y[[*columns, *(["n_cells"] if name == "weighted" else [])]]
        row = {"response": response, "fit": name}
        if name != "donors":
            found = shared_responses(Effect(("condition",)), "donor", model.design_of(labels), X)
            row |= {"ratio": found.ratio, "warned": found.pval <= LARGER}
        donor = y["donor"].to_numpy() if name == "donors" else None
        options = {"effects": ["condition"], "n_resamples": N_FLIPS, "random_state": seed}
        with quiet():
            row["rejected"] = effect_tests(model, X, labels, donor, **options).table["pval"].iloc[0] <= ALPHA
        out.append(row)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    n, start = parser.parse_args().studies, time.process_time()
    table = pd.DataFrame([row for r in RESPONSES for seed in range(n) for row in study(r, seed)])
    table["silent"] = table["rejected"].where(table["warned"] == False).astype(float)  # noqa: E712
    table = table.astype({"warned": float, "rejected": float}).groupby(["response", "fit"]).mean().assign(studies=n)
    table.to_csv(OUT / "designs_responses.csv", float_format="%.4g", lineterminator="\n")
    print(table.round(3).to_string(), f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()

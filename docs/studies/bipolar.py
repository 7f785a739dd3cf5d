# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bipolar cells of the mouse: do signs help where the true circuit is unknown?
#
# **Question.** On simulated retinas, known signs of synapses make circuits recoverable. Here the cells are real. Does a
# circuit model whose signs follow from transmitters, fitted to responses under one stimulus, predict the responses
# under another one better than the same model without signs?
#
# **Data.** Mean glutamate release of 14 types of bipolar cells under a *chirp* of light, which was either a small spot
# on the cell (local) or filled the field (global); 64 values per second, 32 s each (Franke et al. 2017). The area of
# contact between the types of cells of the inner retina comes from an electron-microscopic volume (Helmstaedter et
# al. 2013). Both are in the repository `berenslab/bc_network` (commit 5ba8cd2), whose licence is not stated, so flda
# links to it and does not contain it. The traces are there as a pickle file, which flda does not open, because reading
# a pickle can run code. The page reads the same numbers as a table, `bipolar_chirp_means.csv.gz` with the columns
# `stimulus, type, time_s, mean`.
#
# **Signs.** Photoreceptors release glutamate in the dark. It excites OFF bipolar cells and, through Grm6, inhibits ON
# bipolar cells. Bipolar cells excite amacrine cells by glutamate. Amacrine cells inhibit bipolar cells by GABA or
# glycine.
#
# **Not known.** Amacrine cells were not recorded, so their number in the model is a guess. Traces were scaled to 0 to 1
# for each type and stimulus, so that only their shape can be compared: the score is the correlation, mean of the types.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from flda import circuits

folder = Path(os.environ.get("FLDA_DATA_DIR", "data")) / "franke2017_bipolar"
OFF = ["BC1", "BC2", "BC3a", "BC3b", "BC4"]
ON = ["BC5t", "BC5o", "BC5i", "BCX", "BC6", "BC7", "BC8", "BC9", "BCR"]
types = OFF + ON
traces = pd.read_csv(folder / "bipolar_chirp_means.csv.gz").pivot(
    index=["stimulus", "time_s"], columns="type", values="mean"
)
responses = {stimulus: traces.loc[stimulus, types].to_numpy() for stimulus in ("local", "global")}
time = traces.loc["local"].index.to_numpy()
chirp = pd.read_csv(folder / "chirp_stimulus_every4.csv.gz")
light = np.interp(time, chirp["Time"], chirp["Stim"])


def similarity(a, b):
    """Correlation of two sets of traces, by type."""
    return pd.Series([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)], types)


as_they_are = similarity(responses["local"], responses["global"])
as_they_are.round(2)

# %% [markdown]
# The responses of most types under the two chirps are alike. Types 1, 3b, 4, 5t and R differ most. The figure shows
# them.

# %%
fig, axes = plt.subplots(6, 1, figsize=(8, 6), sharex=True, layout="constrained")
axes[0].plot(time, light, color="0.4", lw=0.7)
axes[0].set_ylabel("light")
for ax, name in zip(axes[1:], ("BC1", "BC4", "BC5t", "BC7", "BCR"), strict=True):
    for stimulus, color in (("local", "tab:blue"), ("global", "tab:orange")):
        ax.plot(time, responses[stimulus][:, types.index(name)], color=color, lw=0.9, label=stimulus)
    ax.set_ylabel(name)
axes[1].legend(frameon=False, ncol=2, fontsize=8)
axes[-1].set_xlabel("time, s");

# %% [markdown]
# ## The model
#
# The release of the photoreceptors falls with light. Seven low-pass filters (30 ms to 2 s) of it are the inputs, from
# the centre and from the surround; under the local chirp the surround stays dark. Eight amacrine units rectify: four
# driven by OFF and four by ON bipolar cells, of each two that see the centre only and two that also see the surround.
# A constant input stands for thresholds and resting levels; its signs are unknown.

# %%
TIMES = np.array([0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0])


def low_pass(signal, tau):
    filtered, level, share = [], signal[0], 1 - np.exp(-(time[1] - time[0]) / tau)
    for value in signal:
        level += share * (value - level)
        filtered.append(level)
    return np.array(filtered)


release = np.stack([low_pass(1 - light, tau) for tau in TIMES], axis=1)
constant = np.ones((len(time), 1))
inputs = {
    "local": np.hstack([release, np.ones_like(release), constant]),
    "global": np.hstack([release, release, constant]),
}
every = slice(None, None, 2)  # 32 values per second are enough for a chirp of at most 8 Hz
inputs = {name: X[every] for name, X in inputs.items()}
responses = {name: y[every] for name, y in responses.items()}

n = len(TIMES)
polarity = np.repeat([1.0, -1.0], 4)  # of the amacrine units: glutamate of photoreceptors excites the OFF pathway
wide = np.tile([0.0, 0.0, 1.0, 1.0], 2)
to_amacrine = np.vstack([np.tile(polarity, (n, 1)), np.tile(polarity * wide, (n, 1)), np.full((1, 8), np.nan)])
by_type = np.array([1.0] * len(OFF) + [-1.0] * len(ON))
to_bipolar = np.vstack([np.tile(by_type, (n, 1)), np.zeros((n, len(types))), np.full((1, len(types)), np.nan)])
signed = circuits.CircuitModel(
    [
        circuits.Population("photoreceptor", 2 * n + 1),
        circuits.Population("amacrine", 8),
        circuits.Population("bipolar", len(types), rectify=False),
    ],
    [
        circuits.Connection("photoreceptor", "amacrine", to_amacrine),
        circuits.Connection("photoreceptor", "bipolar", to_bipolar),
        circuits.Connection("amacrine", "bipolar", -np.ones((8, len(types)))),
    ],
)
models = {"signs": signed, "no signs": signed.unsigned()}
signed.n_parameters, int(np.isnan(signed.signs).sum())

# %% [markdown]
# Neighbouring moments are alike, so every fifth second of the fitted chirp chooses the penalty. Each model is fitted
# from four starts, and the start that predicts these seconds best is taken. The other chirp is used for the score only.

# %%
held = (np.arange(len(inputs["local"])) // 32) % 5 == 4
rows, fits = [], {}
for fitted, other in (("global", "local"), ("local", "global")):
    X, y = inputs[fitted], responses[fitted]
    for name, model in models.items():
        for start in range(4):
            found = circuits.recover_circuit(
                model, X[~held], y[~held], validation=(X[held], y[held]), halves=False, n_restarts=1, random_state=start
            )
            row = {
                "fitted": fitted, "model": name, "start": start,
                "held seconds": model.score(found.weights, X[held], y[held]),
                "same chirp": similarity(found.predict(X), y).mean(),
                "other chirp": similarity(found.predict(inputs[other]), responses[other]).mean(),
                "synapses": sum(int((w != 0).sum()) for w in found.weights.values()), "warnings": len(found.warnings),
            }  # fmt: skip
            rows.append(row)
            fits[fitted, name, start] = found
table = pd.DataFrame(rows)
table.round(2)

# %%
best = table.loc[table.groupby(["fitted", "model"])["held seconds"].idxmax()].set_index(["fitted", "model"])
best.round(2)

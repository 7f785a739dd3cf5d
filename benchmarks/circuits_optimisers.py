"""Madam and Nero compared with Adam, SGD and LAMB, each over a range of learning rates.

    python benchmarks/circuits_optimisers.py                # all parts, about half an hour of one core
    python benchmarks/circuits_optimisers.py memory shapes  # parts

shallow: 5 layers of width 64 on scikit-learn's digits, 300 steps. deep: 50 layers, 300 steps. longer: 50 layers, 3,000
steps, the authors of Nero's case, from two starts: weights that keep the variance from layer to layer, and the uniform
ones within 1 / sqrt(inputs) that frameworks draw by default. shapes: one learning rate over depths 2 to 20 and widths
16 to 64, 1,000 steps; the authors of Madam report that its rate needs no tuning. integer: Madam with 12, 10 and 8 bits.
memory: bytes that weights and state take, read from the arrays. circuit: circuit 2 of the retina, 3 kernels, 1,400
samples, signs and L1. Every part writes ``results/circuits_optimisers_<part>.csv``; longer and shapes skip the rows
that it already has.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise, product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from flda.circuits import optim, simulate, support_recovery, system_recovery
from flda.circuits._start import starting_weights

OUT = Path(__file__).parent / "results"
WIDTH, BATCH, EPOCHS = 64, 250, 60
SEEDS = {"deep": 2, "shallow": 3, "integer": 3, "circuit": 3}
RATES = np.array([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1])
OPTIMISERS = {
    "adam": optax.adam,
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
    "lamb": optax.lamb,
    "madam": lambda rate: optim.madam(rate, p_scale=3.0),
    "nero": optim.nero,
}
INTEGER = {
    "madam, floating point": lambda rate: optim.madam(rate, p_scale=3.0),
    "integer madam, 12 bits": lambda rate: optim.integer_madam(rate, bits=12, base=0.001),
    "integer madam, 10 bits": lambda rate: optim.integer_madam(rate, bits=10, base=0.005),
    "integer madam, 8 bits": lambda rate: optim.integer_madam(rate, bits=8, base=0.01),
}


def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.astype(np.float32) / 16, y, test_size=0.2, random_state=0, stratify=y)


def forward(weights, x):
    for w in weights[:-1]:
        x = jax.nn.relu(x @ w) * np.sqrt(2)
    return x @ weights[-1]


def starting(key, shape: tuple[int, int], start: str):
    """Weights of a layer: with the variance 1 / inputs, or a third of it as frameworks draw them by default."""
    if start == "framework":
        return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) / np.sqrt(shape[0])
    return jax.random.normal(key, shape) / np.sqrt(shape[0])


def train(
    name: str,
    make,
    depth: int,
    rates: np.ndarray,
    seeds: int,
    data,
    *,
    width: int = WIDTH,
    epochs: int = EPOCHS,
    start: str = "variance",
) -> list[dict]:
    """Train with all learning rates and seeds of one optimiser; the rate falls to a twentieth."""
    X, X_test, y, y_test = (jnp.asarray(a) for a in data)
    sizes = [X.shape[1], *[width] * (depth - 1), 10]
    per_epoch = len(X) // BATCH

    def loss(weights, x, labels):
        return optax.softmax_cross_entropy_with_integer_labels(forward(weights, x), labels).mean()

    def accuracy(weights, x, labels):
        return (forward(weights, x).argmax(axis=1) == labels).mean()

    def run(rate, seed):
        keys = jax.random.split(jax.random.key(seed), len(sizes))
        weights = [starting(k, shape, start) for k, shape in zip(keys, pairwise(sizes), strict=False)]
        if name == "nero":
            weights = optim.nero_project(weights)

        def schedule(count):
            return rate * 0.95 ** ((count // per_epoch) * EPOCHS / epochs)

        transformation = make(schedule)

        def epoch(carry, key):
            order = jax.random.permutation(key, len(X))[: per_epoch * BATCH].reshape(per_epoch, BATCH)

            def step(inner, at):
                weights, state = inner
                grads = jax.grad(loss)(weights, X[at], y[at])
                updates, state = transformation.update(grads, state, weights)
                return (optax.apply_updates(weights, updates), state), None

            return jax.lax.scan(step, carry, order)[0], None

        (weights, _), _ = jax.lax.scan(
            epoch, (weights, transformation.init(weights)), jax.random.split(keys[-1], epochs)
        )
        return accuracy(weights, X, y), accuracy(weights, X_test, y_test)

    pairs = [(rate, seed) for rate in rates for seed in range(seeds)]
    jitted = jax.jit(lambda rate, seed: jax.lax.map(lambda a: run(*a), (rate, seed)))
    fitted, held = jitted(jnp.array([p[0] for p in pairs]), jnp.array([p[1] for p in pairs]))
    return [
        {"optimiser": name, "learning_rate": rate, "seed": seed, "train": float(a), "test": float(b)}
        for (rate, seed), a, b in zip(pairs, fitted, held, strict=True)
    ]


def circuit(name: str, make, rates: np.ndarray, seeds: int, data) -> list[dict]:
    """Circuit 2 under signs and an L1 penalty, by minibatches of 100 over 4,000 steps, as in the paper on circuits."""
    retina, (X, y), test = data
    model, penalty, steps = retina.model, 0.005, 4000
    signs = jnp.asarray(model.signs)
    relative = jnp.asarray(model.penalties)
    inputs, responses = jnp.asarray(X), jnp.asarray(y)
    positive = name in ("madam", "eg")  # they multiply, so they work on absolute weights
    proximal = name.startswith("proximal")
    masks = [(s.shape, s.rows, s.cols, s.ids) for s in model.synapses]
    gain, threshold = model.populations[1].gain, model.populations[1].threshold

    def respond(theta, x):
        into, out, direct = (jnp.zeros(shape).at[rows, cols].set(theta[ids]) for shape, rows, cols, ids in masks)
        return (x @ direct + jax.nn.relu(gain * x @ into - threshold) @ out)[:, 0]

    def loss(phi, x, target):
        theta = signs * phi if positive else phi
        penalised = 0.0 if proximal else penalty * (relative @ jnp.abs(theta))
        return 0.5 * jnp.mean((respond(theta, x) - target) ** 2) + penalised

    def run(rate, seed, start):
        schedule = optax.warmup_cosine_decay_schedule(rate / 100, rate, steps // 5, steps)
        opt = optim.proximal_adam(schedule, penalty=penalty * relative, signs=signs) if proximal else make(schedule)

        def step(carry, key):
            phi, state = carry
            at = jax.random.randint(key, (100,), 0, len(inputs))
            updates, state = opt.update(jax.grad(loss)(phi, inputs[at], responses[at]), state, phi)
            phi = optax.apply_updates(phi, updates)
            return (phi if positive or proximal else jnp.where(phi * signs < 0, 0.0, phi), state), None

        return jax.lax.scan(step, (start, opt.init(start)), jax.random.split(jax.random.key(seed), steps))[0][0]

    rows = []
    run = jax.jit(run)
    for rate in rates:
        for seed in range(seeds):
            start = starting_weights(model, X, y[:, None], seed)
            start = np.maximum(np.abs(start), 1e-4) if positive else start
            fit = np.asarray(run(float(rate), seed, jnp.asarray(start, jnp.float32)), float)
            fit = model.signs * fit if positive else fit
            finite = np.isfinite(fit).all()
            w = model.weights(fit)
            rows.append(
                {
                    "optimiser": name, "learning_rate": rate, "seed": seed,
                    "train": system_recovery(w, retina.truth) if finite else 0.0,
                    "test": model.score(w, *test) if finite else -np.inf,
                    "r_supp": support_recovery(w, retina.truth) if finite and (np.abs(fit) > 0.07).any() else 0.0,
                }
            )  # fmt: skip
    return rows


def memory() -> list[dict]:
    """Bytes of weights and state for one layer of 784 x 784, as the arrays report them."""
    w = {"w": jax.random.normal(jax.random.key(0), (784, 784))}
    made = {**{name: make(0.01) for name, make in OPTIMISERS.items()}, "proximal adam": optim.proximal_adam()}
    made |= {f"integer madam, {bits} bits": optim.integer_madam(bits=bits) for bits in (12, 8)}
    rows = []
    for name, opt in made.items():
        state = opt.init(w)
        integer = name.startswith("integer")
        # the weights of integer Madam are its state: levels and signs
        weights = state.level["w"].nbytes + state.sign["w"].nbytes if integer else w["w"].nbytes
        total = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(state)) + (0 if integer else w["w"].nbytes)
        rows.append(
            {"optimiser": name, "weight_bytes": weights, "total_bytes": total, "bytes_per_weight": total / 784**2}
        )
        print(rows[-1], flush=True)
    return rows


DEFAULTS = {"madam": 0.01, "adam": 0.001, "nero": 0.01, "lamb": 0.01, "sgd": 0.01}
FACTORS = np.array([0.1, 1 / 3, 1, 3, 10])


def shapes(data) -> None:
    """Accuracy of each optimiser at five learning rates around its default, over depth and width."""
    for depth, width, name in product((2, 5, 10, 20), (16, 32, 64), ("madam", "adam", "sgd")):
        resumed(
            "shapes", {"depth": depth, "width": width, "optimiser": name},
            lambda name=name, depth=depth, width=width: train(
                name, OPTIMISERS[name], depth, DEFAULTS[name] * FACTORS, 1, data, width=width, epochs=200
            ),
        )  # fmt: skip


LONGER = [  # learning rates of the 3,000 steps: the defaults and those that may do better, the telling ones first
    ("nero", 1e-2), ("adam", 1e-4), ("adam", 1e-3), ("madam", 1e-2), ("lamb", 1e-2), ("sgd", 1e-2), ("nero", 3e-3),
    ("adam", 3e-4), ("sgd", 1e-3), ("nero", 1e-3), ("nero", 3e-2), ("madam", 3e-3), ("lamb", 3e-3),
]  # fmt: skip


def longer(data) -> None:
    """Accuracy of 50 layers after 3,000 steps, from two starts."""
    for (name, rate), start in product(LONGER, ("variance", "framework")):
        resumed(
            "longer", {"start": start, "optimiser": name, "learning_rate": rate},
            lambda name=name, start=start, rate=rate: train(
                name, OPTIMISERS[name], 50, np.array([rate]), 1, data, epochs=10 * EPOCHS, start=start
            ),
        )  # fmt: skip


def resumed(part: str, keys: dict, make) -> None:
    """Append the rows of ``make`` to the table of a part, unless the table has rows of these keys."""
    path = OUT / f"circuits_optimisers_{part}.csv"
    if path.exists():
        table = pd.read_csv(path)
        if len(table.merge(pd.DataFrame([keys]), on=list(keys))):
            return
    clock = time.process_time()
    table = pd.DataFrame([keys | row for row in make()])
    table.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.5g", lineterminator="\n")
    print(
        keys,
        table.groupby("learning_rate")["test"].mean().round(3).to_dict(),
        f"{time.process_time() - clock:.0f} s",
        flush=True,
    )


def main(parts: list[str]) -> None:
    for part in parts:
        rows = []
        if part == "memory":
            table = pd.DataFrame(memory())
            table.to_csv(OUT / f"circuits_optimisers_{part}.csv", index=False, float_format="%.5g", lineterminator="\n")
            continue
        if part in ("shapes", "longer"):
            {"shapes": shapes, "longer": longer}[part](digits())
            continue
        if part == "circuit":
            retina = simulate.retina_circuit("2", n_kernels=3)
            data = [retina, *(retina.sample(n, random_state=s) for n, s in ((1400, 21), (500, 23)))]
            chosen = {
                **OPTIMISERS, "madam": optim.madam, "eg": optim.exponentiated_gradient, "proximal adam": None,
            }  # fmt: skip
        else:
            data, chosen = digits(), INTEGER if part == "integer" else OPTIMISERS
        for name, make in chosen.items():
            if part == "circuit":
                rows += circuit(name, make, RATES[2:], SEEDS[part], data)
            else:
                few = RATES[1:7] if part == "deep" else RATES
                rows += train(name, make, 50 if part == "deep" else 5, few, SEEDS[part], data)
            table = pd.DataFrame(rows)
            summary = table[table["optimiser"] == name].groupby("learning_rate")[["train", "test"]].mean().round(3)
            print(part, name, summary.T.to_string(), flush=True)
            table = table.rename(columns={"train": "r_sys", "test": "r2_test"}) if part == "circuit" else table
            table.to_csv(OUT / f"circuits_optimisers_{part}.csv", index=False, float_format="%.5g", lineterminator="\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["shallow", "deep", "longer", "shapes", "integer", "memory", "circuit"])

"""Madam and Nero compared with Adam, SGD and LAMB, each over a range of learning rates.

    python benchmarks/circuits_optimisers.py deep shallow integer circuit  # about 15 minutes on one core
    python benchmarks/circuits_optimisers.py memory shapes                 # bytes of the states; Madam's default rate

deep: a 50-layer perceptron of width 64 on scikit-learn's digits, where the authors of Nero report an advantage.
shallow: 5 layers; the authors of Madam report that one learning rate suits all problems. integer: Madam with 12, 10 and
8 bits. memory: bytes that weights and state take, measured. shapes: Madam and Adam at their default rates and at a
third and three times of them, over depth and width. circuit: circuit 2 of the retina, 3 kernels, 1,400 samples, signs
and L1.
"""

from __future__ import annotations

import sys
from itertools import pairwise
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


def train(name: str, make, depth: int, rates: np.ndarray, seeds: int, data, width: int = WIDTH) -> list[dict]:
    """Train with all learning rates and seeds of one optimiser."""
    X, X_test, y, y_test = (jnp.asarray(a) for a in data)
    sizes = [X.shape[1], *[width] * (depth - 1), 10]
    per_epoch = len(X) // BATCH

    def loss(weights, x, labels):
        return optax.softmax_cross_entropy_with_integer_labels(forward(weights, x), labels).mean()

    def accuracy(weights, x, labels):
        return (forward(weights, x).argmax(axis=1) == labels).mean()

    def run(rate, seed):
        keys = jax.random.split(jax.random.key(seed), len(sizes))
        weights = [
            jax.random.normal(k, shape) / np.sqrt(shape[0]) for k, shape in zip(keys, pairwise(sizes), strict=False)
        ]
        if name == "nero":
            weights = optim.nero_project(weights)

        def schedule(count):
            return rate * 0.95 ** (count // per_epoch)

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
            epoch, (weights, transformation.init(weights)), jax.random.split(keys[-1], EPOCHS)
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


def shapes(data) -> list[dict]:
    """Test accuracy at fixed learning rates over depth and width, against the best of the three rates."""
    rows = []
    for depth in (2, 5, 10, 20):
        for width in (16, 64, 128):
            for name, rate in (("madam", 0.01), ("adam", 0.001)):
                found = train(name, OPTIMISERS[name], depth, rate * np.array([1 / 3, 1, 3]), 1, data, width)
                rows += [{"depth": depth, "width": width, **row} for row in found]
                print(rows[-2], flush=True)
                pd.DataFrame(rows).to_csv(
                    OUT / "circuits_optimisers_shapes.csv", index=False, float_format="%.5g", lineterminator="\n"
                )
    return rows


def main(parts: list[str]) -> None:
    for part in parts:
        rows = []
        if part in ("memory", "shapes"):
            table = pd.DataFrame(memory() if part == "memory" else shapes(digits()))
            table.to_csv(OUT / f"circuits_optimisers_{part}.csv", index=False, float_format="%.5g", lineterminator="\n")
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
    main(sys.argv[1:] or ["deep", "shallow", "integer", "circuit"])

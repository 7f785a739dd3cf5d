"""Fits of one circuit, many side by side under one compilation: the engine of :mod:`flda.circuits.recover`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._jax import jax, jnp, optax
from .models import CircuitModel
from .optim import madam
from .proximal import proximal_adam


def fit_lanes(
    model: CircuitModel,
    X: np.ndarray,
    y: np.ndarray,
    X_val: np.ndarray,
    y_val: np.ndarray,
    penalties: np.ndarray,
    *,
    seeds: np.ndarray,
    subsets: np.ndarray | None = None,
    parameterisation: str = "projected",
    optimizer: Callable[[Any], optax.GradientTransformation] | None = None,
    n_steps: int = 4000,
    learning_rate: float = 0.03,
    batch_size: int = 100,
    n_checks: int = 20,
) -> np.ndarray:
    """Many fits of one circuit side by side: the engine of :func:`recover_circuit`.

    Parameters
    ----------
    model, X, y, X_val, y_val
        As there, y with one column per output.
    penalties, seeds
        One per fit.
    subsets
        ``(n_fits, n)`` samples that each fit may use; None for all.
    parameterisation
        "projected", "absolute" or "multiplicative".
    optimizer
        Maps a learning-rate schedule to another optimiser for "projected" weights; its steps, of loss and penalty
        together, are then clipped at zero.
    n_steps, learning_rate, batch_size
        As there.
    n_checks
        How often a fit is judged by its penalised loss on the validation samples. The best state is kept, and the
        fits stop when none has improved by a thousandth over a quarter of the checks.

    Returns
    -------
    ``(n_fits, n_parameters)`` signed weights.
    """
    subsets = np.broadcast_to(np.arange(len(X)), (len(seeds), len(X))) if subsets is None else subsets
    signs = np.where(np.isnan(model.signs), 0.0, model.signs)  # 0 stands for free
    free = np.flatnonzero(signs == 0)
    rate = optax.warmup_cosine_decay_schedule(learning_rate / 100, learning_rate, n_steps // 5, n_steps)
    chunk = max(1, n_steps // n_checks)
    batch_size = min(batch_size, subsets.shape[1])
    relative = jnp.asarray(model.penalties, jnp.float32)
    n_parameters = model.n_parameters
    lay_out, respond = _compiled(model)
    train, held = lay_out(X), lay_out(X_val)
    y_train, y_held = jnp.asarray(y, jnp.float32), jnp.asarray(y_val, jnp.float32)

    def signed(phi):
        if parameterisation == "absolute":
            return jnp.where(signs == 0, phi, signs * jnp.abs(phi))
        if parameterisation == "multiplicative":  # a free weight is the difference of two positive ones
            twin = jnp.zeros(n_parameters).at[free].set(phi[n_parameters:])
            return jnp.where(signs == 0, 1.0, signs) * phi[:n_parameters] - twin
        return phi

    def transformation(penalty):
        if optimizer is not None:
            return optimizer(rate)
        if parameterisation == "projected":
            return proximal_adam(rate, penalty=penalty * relative, signs=jnp.asarray(model.signs))
        return optax.adam(rate) if parameterisation == "absolute" else madam(rate)

    def error(phi, inputs, responses):
        return 0.5 * jnp.mean(jnp.sum((respond(signed(phi), inputs) - responses) ** 2, axis=1))

    def l1(phi, penalty):
        if parameterisation == "multiplicative":
            return penalty * (relative @ phi[:n_parameters] + relative[free] @ phi[n_parameters:])
        return penalty * (relative @ jnp.abs(phi))

    proximal = optimizer is None and parameterisation == "projected"  # the penalty is in the proximal step then

    def loss(phi, inputs, responses, penalty):
        return error(phi, inputs, responses) + (0.0 if proximal else l1(phi, penalty))

    def run(state, key, penalty, subset, step):
        def one(carry, index):
            phi, opt = carry
            at = subset[jax.random.randint(jax.random.fold_in(key, index), (batch_size,), 0, len(subset))]
            grads = jax.grad(loss)(phi, {name: a[at] for name, a in train.items()}, y_train[at], penalty)
            updates, opt = transformation(penalty).update(grads, opt, phi)
            phi = optax.apply_updates(phi, updates)
            if optimizer is not None and parameterisation == "projected":
                phi = jnp.where(phi * signs < 0, 0.0, phi)
            return (phi, opt), None

        (phi, opt), _ = jax.lax.scan(one, state, step + jnp.arange(chunk))
        return (phi, opt), error(phi, held, y_held) + l1(phi, penalty)

    def first(theta):
        if parameterisation != "multiplicative":
            return theta
        half = np.maximum(np.abs(theta), 1e-4)
        return np.concatenate(
            [np.where(signs == 0, np.maximum(theta, 0.1 * half), half), np.maximum(-theta, 0.1 * half)[free]]
        )

    phi = np.stack(
        [first(starting_weights(model, X[s], y[s], int(seed))) for s, seed in zip(subsets, seeds, strict=True)]
    )
    start = jnp.asarray(phi, jnp.float32)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    penalty = jnp.asarray(penalties, jnp.float32)
    state = (start, jax.vmap(lambda f, p: transformation(p).init(f))(start, penalty))
    advance = jax.jit(jax.vmap(run, in_axes=(0, 0, 0, 0, None)))
    subset = jnp.asarray(subsets)
    kept, lowest, improved = start, jnp.full(len(seeds), jnp.inf), 0
    for check in range(-(-n_steps // chunk)):
        state, judged = advance(state, keys, penalty, subset, check * chunk)
        if bool(jnp.any(judged < lowest * (1 - 1e-3))):
            improved = check
        kept = jnp.where((judged < lowest)[:, None], state[0], kept)
        lowest = jnp.minimum(jnp.nan_to_num(judged, nan=jnp.inf), lowest)
        if check - improved >= max(2, n_checks // 4):
            break
    return np.asarray(jax.vmap(signed)(kept), float)


def starting_weights(model: CircuitModel, X: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Random weights under which every unit is driven: a unit that never fires has no gradient and stays silent.

    Population by population, half-normal weights are scaled so that a rectifying unit with a positive threshold fires
    in a share of the samples that the seed draws from 0.3 to 0.7, and the output varies as much as the responses do.
    Inhibition of the output starts at a fifth of excitation, or a rectified output could be silent from the start.
    """
    rng = np.random.default_rng([seed, 20210814])
    share = rng.uniform(0.2, 0.5)
    X, y = X[:500], y[:500]
    free = np.isnan(model.signs)
    theta = np.abs(rng.normal(size=model.n_parameters)) * np.where(
        free, rng.choice([-1.0, 1.0], model.n_parameters), model.signs
    )
    for s in model.synapses:
        theta[s.ids] *= np.sqrt(2.0 / np.bincount(s.cols, minlength=s.shape[1])[s.cols])
    last = model.populations[-1]
    for p in model.populations[1:]:
        arriving = [s for s, c in zip(model.synapses, model.connections, strict=True) if c.target == p.name]
        if p is last:
            for s in arriving:
                theta[np.unique(s.ids[theta[s.ids] < 0])] *= np.where(np.isnan(model.signs[s.ids]).all(), 1.0, 0.2)
        drive = model.drive(model.weights(theta), X, p.name)
        threshold = np.broadcast_to(np.asarray(p.threshold, float), p.size)
        spread = drive.std(axis=0)
        if p is last:
            scale = np.divide(y.std(axis=0), spread, out=np.ones(p.size), where=spread > 0)
        else:
            level = np.quantile(drive, 1 - share, axis=0)
            turned = np.quantile(-drive, 1 - share, axis=0)
            for s in arriving:  # a unit of free-signed inputs may start turned round when that drives it
                turn = (turned > level)[s.cols] & free[s.ids]
                theta[s.ids[turn]] *= -1
            level = np.quantile(model.drive(model.weights(theta), X, p.name), 1 - share, axis=0)
            usable = (level > 0) & (threshold > 0) & p.rectify
            scale = np.divide(threshold, level, out=np.ones(p.size), where=usable).clip(0.05, 3.0)
        for s in arriving:
            factor = np.bincount(s.ids, scale[s.cols], model.n_parameters) / np.maximum(
                np.bincount(s.ids, minlength=model.n_parameters), 1
            )
            theta[s.ids] = (theta * np.where(factor > 0, factor, 1.0))[s.ids]
    return theta


def _compiled(model: CircuitModel) -> tuple[Callable, Callable]:
    """Inputs laid out once for all steps, and the circuit's response to such inputs in terms of its free weights.

    A connection from the inputs of which most entries are absent is stored as the list of every target's sources:
    for a retina of 28 kernels and 25 amacrine units this saves 24 of 25 multiplications.
    """
    source = model.populations[0].name
    sources, ids = {}, {}
    for s, c in zip(model.synapses, model.connections, strict=True):
        fan = np.bincount(s.cols, minlength=s.shape[1])
        if c.source == source and fan.max() < 0.5 * s.shape[0]:
            order = np.argsort(s.cols, kind="stable")
            place = np.concatenate([np.arange(n) for n in fan])
            sources[s.name] = np.zeros((s.shape[1], fan.max()), int)
            ids[s.name] = np.full((s.shape[1], fan.max()), model.n_parameters)  # points at a zero behind the weights
            sources[s.name][s.cols[order], place] = s.rows[order]
            ids[s.name][s.cols[order], place] = s.ids[order]
    needs_all = any(c.source == source and c.name not in sources for c in model.connections)

    def lay_out(X):
        X = np.asarray(X, np.float32)
        arrays = {name: X[:, at] for name, at in sources.items()}
        return {name: jnp.asarray(a) for name, a in (arrays | ({source: X} if needs_all else {})).items()}

    def respond(theta, inputs):
        padded = jnp.concatenate([theta, jnp.zeros(1)])
        activity = {source: inputs.get(source)}
        for p in model.populations[1:]:
            drive: Any = 0.0
            for s, c in zip(model.synapses, model.connections, strict=True):
                if c.target != p.name:
                    continue
                if s.name in sources:
                    drive += jnp.sum(inputs[s.name] * padded[ids[s.name]], axis=2)
                else:
                    drive += activity[c.source] @ jnp.zeros(s.shape).at[s.rows, s.cols].set(theta[s.ids])
            activity[p.name] = p.respond(p.gain * drive, jnp)
        return activity[model.populations[-1].name]

    return lay_out, respond

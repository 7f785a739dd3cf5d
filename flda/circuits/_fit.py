"""Fits of a circuit by stochastic gradient descent, many of them at once under one compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ._jax import jax, jnp, optax
from ._models import CircuitModel
from ._start import starting_weights
from .optim import madam, proximal_adam

N_CHECKS = 20  # how often a fit is judged on the validation samples
IMPROVEMENT = 1e-3  # relative decrease of the validation loss below which a fit has not improved


def fit_circuit(
    model: CircuitModel,
    X: np.ndarray,
    y: np.ndarray,
    *,
    validation: tuple[np.ndarray, np.ndarray],
    penalties: Sequence[float] | np.ndarray,
    seeds: Sequence[int] | np.ndarray,
    subsets: np.ndarray | None = None,
    parameterisation: str = "projected",
    optimizer: Callable[[Any], optax.GradientTransformation] | None = None,
    n_steps: int = 4000,
    learning_rate: float = 0.03,
    batch_size: int = 100,
) -> np.ndarray:
    """Fit the weights of a circuit, once for each pair of a penalty and a seed.

    Each fit minimises half the mean squared error plus an L1 penalty over minibatches. All fits run at once, under one
    compilation. :func:`recover_circuit` calls this function, chooses the penalty and checks the result; call it
    directly to control every fit.

    The penalised loss on the validation samples is computed 20 times during a fit, and the weights with the lowest loss
    are returned. The fits stop early if none has improved by a thousandth within a quarter of the checks.

    Parameters
    ----------
    model
        Wiring diagram, signs, gains and thresholds.
    X
        ``(n_samples, n_inputs)`` activity of the first population.
    y
        ``(n_samples,)`` or ``(n_samples, n_outputs)`` responses of the last population.
    validation
        Samples ``(X, y)`` that judge the fits but do not enter their gradients.
    penalties
        ``(n_fits,)`` L1 weights, in units of the loss per unit of weight.
    seeds
        ``(n_fits,)`` seeds of the starting weights and the minibatches.
    subsets
        ``(n_fits, n)`` indices of the samples that each fit may use; None for all samples.
    parameterisation
        ``"projected"``, ``"absolute"`` or ``"multiplicative"``, as in :func:`recover_circuit`.
    optimizer
        Function from a learning-rate schedule to an optax optimiser. It replaces the optimiser of the parameterisation.
        With ``"projected"``, the penalty is then part of the loss, and weights of the wrong sign are set to zero after
        each step.
    n_steps
        Number of gradient steps.
    learning_rate
        Largest learning rate, in units of the weights. It rises linearly over a fifth of the steps and then falls to
        zero along a half cosine.
    batch_size
        Samples per minibatch.

    Returns
    -------
    ndarray of shape (n_fits, n_parameters)
        Free weights of every fit, signs included; :meth:`CircuitModel.weights` arranges them as matrices.

    Raises
    ------
    ValueError
        If the data do not fit the model, hold NaN or infinite values, or have constant responses; if penalties and
        seeds differ in length; or if the parameterisation is unknown.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021).

    Examples
    --------
    >>> from flda.circuits import fit_circuit, simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> held_out = retina.sample(100, random_state=1)
    >>> X, y = retina.sample(200)
    >>> fits = fit_circuit(retina.model, X, y, validation=held_out, penalties=[0.01], seeds=[0], n_steps=2000)
    >>> retina.model.score(retina.model.weights(fits[0]), *held_out) > 0.9
    True
    """
    X, y = check_samples(model, X, y)
    X_val, y_val = check_samples(model, *validation, what="validation ")
    penalties, seeds = np.asarray(penalties, float), np.asarray(seeds)
    if penalties.ndim != 1 or penalties.shape != seeds.shape:
        raise ValueError(
            f"penalties and seeds have shapes {penalties.shape} and {seeds.shape}; give one of each per fit."
        )
    subsets = np.broadcast_to(np.arange(len(X)), (len(seeds), len(X))) if subsets is None else np.asarray(subsets)
    rate = optax.warmup_cosine_decay_schedule(learning_rate / 100, learning_rate, n_steps // 5, n_steps)
    form = _form(parameterisation, model, rate, optimizer)
    n_chunk = max(1, n_steps // N_CHECKS)
    lay_out, respond = _compiled(model)
    train = lay_out(X), jnp.asarray(y, jnp.float32)
    held = lay_out(X_val), jnp.asarray(y_val, jnp.float32)
    run = _chunk(form, respond, train, held, min(batch_size, subsets.shape[1]), n_chunk)

    # phi of all fits, one row each; keys of their random streams; optimiser states
    start = jnp.asarray(
        np.stack(
            [form.start(starting_weights(model, X[s], y[s], int(k))) for s, k in zip(subsets, seeds, strict=True)]
        ),
        jnp.float32,
    )
    penalty = jnp.asarray(penalties, jnp.float32)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    state = (start, jax.vmap(lambda f, p: form.optimiser(p).init(f))(start, penalty))
    # state, key, penalty and subset differ between fits; the number of the first step is the same for all
    advance = jax.jit(jax.vmap(run, in_axes=(0, 0, 0, 0, None)))
    subset = jnp.asarray(subsets)
    kept, lowest, improved = start, jnp.full(len(seeds), jnp.inf), 0
    for check in range(-(-n_steps // n_chunk)):
        state, loss = advance(state, keys, penalty, subset, check * n_chunk)
        # all fits share one compiled program, so they go on while any of them improves
        if bool(jnp.any(loss < lowest * (1 - IMPROVEMENT))):
            improved = check
        kept = jnp.where((loss < lowest)[:, None], state[0], kept)
        # a fit that diverged has a loss of NaN and keeps its best weights so far
        lowest = jnp.minimum(jnp.nan_to_num(loss, nan=jnp.inf), lowest)
        if check - improved >= max(2, N_CHECKS // 4):
            break
    return np.asarray(jax.vmap(form.weights)(kept), float)


def check_samples(model: CircuitModel, X: Any, y: Any, what: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(n, n_inputs)`` and responses ``(n, n_outputs)`` as floats, if they fit the model and are finite.

    Parameters
    ----------
    model, X, y
        As in :func:`fit_circuit`.
    what
        Name of the samples in error messages, such as ``"validation "``.
    """
    X, y = np.asarray(X, float), np.asarray(y, float)
    first, last = model.populations[0], model.populations[-1]
    y = y[:, None] if y.ndim == 1 else y
    if X.ndim != 2 or X.shape[1] != first.size:
        raise ValueError(
            f"{what}X has shape {X.shape}; it needs one column for each of the {first.size} units of population "
            f"{first.name!r}."
        )
    if y.shape != (len(X), last.size):
        raise ValueError(
            f"{what}y has shape {y.shape}; {len(X)} samples of {last.size} output units need {(len(X), last.size)}."
        )
    for name, values in (("X", X), ("y", y)):
        bad = ~np.isfinite(values)
        if bad.any():
            row, col = np.argwhere(bad)[0]
            raise ValueError(
                f"{what}{name} holds {int(bad.sum())} NaN or infinite values, the first in sample {row}, column {col}; "
                "remove those samples."
            )
    if len(y) and (y == y[0]).all():
        raise ValueError(f"{what}y is the same in all {len(y)} samples; a circuit cannot be recovered from it.")
    return X, y


def _chunk(form: _Form, respond: Callable, train: tuple, held: tuple, batch_size: int, n_chunk: int) -> Callable:
    """Function that takes ``n_chunk`` steps of one fit and returns its state and its loss on the held-out samples."""

    def error(phi, inputs, responses):
        return 0.5 * jnp.mean(jnp.sum((respond(form.weights(phi), inputs) - responses) ** 2, axis=1))

    def loss(phi, inputs, responses, penalty):
        # a proximal step applies the penalty itself; elsewhere it is part of the loss
        return error(phi, inputs, responses) + (0.0 if form.proximal else form.l1(phi, penalty))

    def run(state, key, penalty, subset, step):
        def one(carry, index):
            phi, opt = carry
            # each step has a random stream of its own, so that a fit does not depend on the length of the chunks
            at = subset[jax.random.randint(jax.random.fold_in(key, index), (batch_size,), 0, len(subset))]
            grads = jax.grad(loss)(phi, {name: a[at] for name, a in train[0].items()}, train[1][at], penalty)
            updates, opt = form.optimiser(penalty).update(grads, opt, phi)
            return (form.project(optax.apply_updates(phi, updates)), opt), None

        (phi, opt), _ = jax.lax.scan(one, state, step + jnp.arange(n_chunk))
        return (phi, opt), error(phi, *held) + form.l1(phi, penalty)

    return run


class _Form(Protocol):
    """What a parameterisation defines: how weights w follow from the parameters phi that the optimiser changes."""

    proximal: bool

    def start(self, theta: np.ndarray) -> np.ndarray:
        """Return phi for starting weights theta."""

    def weights(self, phi: Any) -> Any:
        """Return w, signs included."""

    def l1(self, phi: Any, penalty: Any) -> Any:
        """Return the L1 penalty."""

    def optimiser(self, penalty: Any) -> optax.GradientTransformation:
        """Return the optimiser of phi."""

    def project(self, phi: Any) -> Any:
        """Return phi after a step, moved to where the signs allow it."""


class _Projected:
    """Phi is w itself. The optimiser takes proximal steps; if another one is given, w is clipped after each step."""

    def __init__(self, model: CircuitModel, rate: Any, optimizer: Callable | None) -> None:
        self.known = jnp.asarray(model.signs)
        self.signs = np.where(np.isnan(model.signs), 0.0, model.signs)  # 0 stands for an unknown sign
        self.relative = jnp.asarray(model.penalties, jnp.float32)
        self.rate, self.given, self.proximal = rate, optimizer, optimizer is None

    def start(self, theta):
        return theta

    def weights(self, phi):
        return phi

    def l1(self, phi, penalty):
        return penalty * (self.relative @ jnp.abs(phi))

    def optimiser(self, penalty):
        if self.given is not None:
            return self.given(self.rate)
        return proximal_adam(self.rate, penalty=penalty * self.relative, signs=self.known)

    def project(self, phi):
        return phi if self.proximal else jnp.where(phi * self.signs < 0, 0.0, phi)


class _Absolute(_Projected):
    """W = sign |phi|, the parameterisation of Bagherian et al. (2021); phi of unknown sign is w itself."""

    def __init__(self, model: CircuitModel, rate: Any, optimizer: Callable | None) -> None:
        super().__init__(model, rate, optax.adam if optimizer is None else optimizer)

    def weights(self, phi):
        return jnp.where(self.signs == 0, phi, self.signs * jnp.abs(phi))

    def project(self, phi):
        return phi


class _Multiplicative(_Absolute):
    """W = sign phi with positive phi, for optimisers that multiply.

    A weight of unknown sign is the difference of two positive parameters; the second ones stand behind the others.
    """

    def __init__(self, model: CircuitModel, rate: Any, optimizer: Callable | None) -> None:
        super().__init__(model, rate, madam if optimizer is None else optimizer)
        self.free, self.n = np.flatnonzero(self.signs == 0), model.n_parameters

    def start(self, theta):
        half = np.maximum(np.abs(theta), 1e-4)  # a parameter of zero would never change
        positive = np.where(self.signs == 0, np.maximum(theta, 0.1 * half), half)
        return np.concatenate([positive, np.maximum(-theta, 0.1 * half)[self.free]])

    def weights(self, phi):
        subtracted = jnp.zeros(self.n).at[self.free].set(phi[self.n :])
        return jnp.where(self.signs == 0, 1.0, self.signs) * phi[: self.n] - subtracted

    def l1(self, phi, penalty):
        return penalty * (self.relative @ phi[: self.n] + self.relative[self.free] @ phi[self.n :])


_FORMS = {"projected": _Projected, "absolute": _Absolute, "multiplicative": _Multiplicative}


def _form(name: str, model: CircuitModel, rate: Any, optimizer: Callable | None) -> _Form:
    if name not in _FORMS:
        raise ValueError(f"parameterisation {name!r} is unknown; choose one of {', '.join(_FORMS)}.")
    return _FORMS[name](model, rate, optimizer)


def _compiled(model: CircuitModel) -> tuple[Callable, Callable]:
    """Two functions: one arranges the inputs once for all steps, one computes the responses from them and free weights.

    If most entries of a connection from the inputs are absent, it is stored as a list of the sources of each target. A
    retina of 28 kernels and 25 amacrine units then needs one multiplication where the dense matrix needs 25.
    """
    source = model.populations[0].name
    sources, ids = {}, {}
    for s, c in zip(model.synapses, model.connections, strict=True):
        fan = np.bincount(s.cols, minlength=s.shape[1])
        if c.source == source and fan.max() < 0.5 * s.shape[0]:
            order = np.argsort(s.cols, kind="stable")
            position = np.concatenate([np.arange(n) for n in fan])  # of a synapse among those of its target
            sources[s.name] = np.zeros((s.shape[1], fan.max()), int)
            # targets with fewer sources are filled up with a weight that is always zero, appended to the free weights
            ids[s.name] = np.full((s.shape[1], fan.max()), model.n_parameters)
            sources[s.name][s.cols[order], position] = s.rows[order]
            ids[s.name][s.cols[order], position] = s.ids[order]
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
                if s.name in sources:  # inputs (n, target, source) times weights (target, source), summed over sources
                    drive += jnp.sum(inputs[s.name] * padded[ids[s.name]], axis=2)
                else:
                    drive += activity[c.source] @ jnp.zeros(s.shape).at[s.rows, s.cols].set(theta[s.ids])
            activity[p.name] = p.respond(p.gain * drive, jnp)
        return activity[model.populations[-1].name]

    return lay_out, respond

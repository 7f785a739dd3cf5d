"""Dense, independent computations that the package is tested against, and problems with known answers."""

import itertools

import numpy as np
import pandas as pd
import scipy.linalg as sl


def labels_of(codes, n_levels):
    """Label table of integer codes, one column per factor, levels named A0, A1, ..., B0, ..."""
    return pd.DataFrame({chr(65 + j): [f"{chr(65 + j)}{c}" for c in codes[:, j]] for j in range(len(n_levels))})


def problem(n_cells, n_genes, n_levels, *, seed=0, condition=1.0, groups=None):
    """Correlated expression with effects of every order and unequal groups.

    ``condition`` is the ratio of the largest to the smallest standard deviation of the noise, in a rotated
    basis. ``groups`` restricts the occupied combinations of levels.
    """
    rng = np.random.default_rng(seed)
    groups = np.array(list(np.ndindex(*n_levels)) if groups is None else groups)
    every = np.repeat(np.arange(len(groups)), 2)
    share = rng.dirichlet(np.full(len(groups), 3.0))
    codes = groups[np.concatenate([every, rng.choice(len(groups), n_cells - len(every), p=share)])]
    rotation = np.linalg.qr(rng.normal(size=(n_genes, n_genes)))[0]
    noise = rng.normal(size=(n_cells, n_genes)) * np.geomspace(1, 1 / condition, n_genes) @ rotation.T
    X = noise + rng.normal(3, 1, size=n_genes)
    for effect in effects_of(len(n_levels)):
        shape = [n_levels[j] for j in effect]
        X += rng.normal(scale=0.5, size=(*shape, n_genes))[tuple(codes[:, j] for j in effect)]
    return X, labels_of(codes, n_levels)


def effects_of(n_factors):
    return [e for k in range(1, n_factors + 1) for e in itertools.combinations(range(n_factors), k)]


def within_scatter(X, y, within, dtype=np.float64):
    """M_e by its definition, and the group means in sorted order."""
    X = np.asarray(X, dtype=dtype)
    rows = y.groupby(list(y.columns), sort=True).indices
    means = np.stack([X[i].mean(axis=0) for i in rows.values()])
    squares = [(X[i] - m).T @ (X[i] - m) for i, m in zip(rows.values(), means, strict=True)]
    n = np.array([len(i) for i in rows.values()])
    if within == "pooled":
        return sum(squares) / (n.sum() - len(n)), means
    return sum(s / k for s, k in zip(squares, n, strict=True)) / np.sum((n - 1) / n), means


def donor_scatter(X, y, donors, within="pooled", *, of_a_cell=False):
    """Cells around their donor's mean, plus n times the donors' share of the covariance of donor means.

    That of a cell of a new donor has the covariance of donors once. Also means of donor means.
    """
    X = np.asarray(X, dtype=float)
    frame = y.assign(donor=np.asarray(donors))
    samples = frame.groupby(list(frame.columns), sort=True, observed=True).indices
    own = {key: X[i].mean(axis=0) for key, i in samples.items()}
    groups = sorted({key[:-1] for key in own})
    means = np.stack([np.mean([m for key, m in own.items() if key[:-1] == g], axis=0) for g in groups])
    n_cells = {g: sum(len(i) for key, i in samples.items() if key[:-1] == g) for g in groups}
    weights = {g: 1.0 if within == "pooled" else 1 / n_cells[g] for g in groups}
    cells = sum(weights[key[:-1]] * (X[i] - own[key]).T @ (X[i] - own[key]) for key, i in samples.items())
    norm = sum(weights[key[:-1]] * (len(i) - 1) for key, i in samples.items())
    spread = np.stack([m - means[groups.index(key[:-1])] for key, m in own.items()])
    n = len(samples) / sum(1 / len(i) for i in samples.values())
    cells, of_means = cells / norm, spread.T @ spread / (len(samples) - len(groups))
    delta = max(1 - np.trace(cells) / (n * np.trace(of_means)), 1e-3)
    return cells + delta * (1 if of_a_cell else n) * of_means, means


def donor_problem(n_donors, n_cells, n_genes, *, seed=0, donor_sd=0.5, effect=0.5, rank=3):
    """Treatment (between donors) x type (within): donors differ along a few directions of the genes.

    Genes 0 to 4 carry the treatment, 5 to 9 the type; ``n_donors`` per level, each with unequal cells. Returns
    X, labels, donors.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(n_cells // 2, 2 * n_cells, size=2 * n_donors)
    donors = np.repeat(np.arange(2 * n_donors), sizes)
    treatment, kind = donors % 2, rng.integers(2, size=len(donors))
    directions = rng.normal(size=(rank, n_genes))
    X = rng.normal(size=(len(donors), n_genes))
    X += (donor_sd * rng.normal(size=(2 * n_donors, rank)) @ directions)[donors]
    X[:, :5] += effect * (2 * treatment[:, None] - 1)
    X[:, 5:10] += effect * (2 * kind[:, None] - 1)
    y = pd.DataFrame({"treatment": np.array(["no", "yes"])[treatment], "type": np.array(["p", "q"])[kind]})
    return X, y, np.array([f"d{d:02d}" for d in donors])


def shrunken(scatter, g, target):
    """``(1 - g) M + g T``; a gene that does not vary within groups has the mean variance in T."""
    variances = np.diag(scatter)
    T = np.where(variances > 0, variances, variances.mean())
    if target == "identity":
        T = np.full_like(variances, variances.mean())
    return (1 - g) * scatter + g * np.diag(T)


def effect_projector(effect, n_levels):
    """P_S of a complete table, C x C."""
    projector = np.ones((1, 1))
    for j, n in enumerate(n_levels):
        projector = np.kron(projector, np.eye(n) - 1 / n if j in effect else np.full((n, n), 1 / n))
    return projector


def effect_scatters(means, n_levels):
    """M_S of every effect of a complete table by the projectors of the paper."""
    out = {}
    for effect in effects_of(len(n_levels)):
        df = np.prod([n_levels[j] - 1 for j in effect])
        rest = np.prod([n for j, n in enumerate(n_levels) if j not in effect])
        out[effect] = means.T @ effect_projector(effect, n_levels) @ means / (df * rest)
    return out


def dense_flda(X, y, n_levels, *, g, target="diagonal", within="pooled", penalty=1.0):
    """Eigenvalues and axes of every effect by a dense generalised eigensolver, largest first."""
    scatter, means = within_scatter(X, y, within)
    metric = shrunken(scatter, g, target)
    scatters = effect_scatters(means, n_levels)
    out = {}
    for effect, own in scatters.items():
        df = np.prod([n_levels[j] - 1 for j in effect])
        objective = own - penalty * sum(m for e, m in scatters.items() if e != effect)
        values, axes = sl.eigh(objective, metric)
        name = ":".join(chr(65 + j) for j in effect)
        out[name] = values[::-1][:df], axes[:, ::-1][:, :df]
    return out, metric


def group_table(y, donors=None):
    """Level codes of the occupied groups in sorted order, C x F, and the number of independent cells of each."""
    codes = y.apply(lambda column: np.unique(column, return_inverse=True)[1])
    if donors is None:
        counts = codes.value_counts().sort_index()
        return np.array([*counts.index]), counts.to_numpy()
    samples = codes.assign(donor=np.asarray(donors)).value_counts()
    per_group = samples.groupby(list(codes.columns)).size()
    return np.array([*per_group.index]), len(samples) / np.sum(1 / samples.to_numpy()) * per_group.to_numpy()


def coding(groups, effect):
    """Sum-to-zero columns of an effect on the groups; each factor has an arbitrary orthonormal basis."""
    columns = np.ones((len(groups), 1))
    for j in effect:
        n = groups[:, j].max() + 1
        basis = sl.null_space(np.ones((1, n)))
        columns = np.stack([np.kron(a, b) for a, b in zip(columns, basis[groups[:, j]], strict=True)])
    return columns


def least_squares(D, weights):
    """The matrix that maps group means to coefficients with the least weighted squares of the residuals."""
    return np.linalg.solve(D.T @ (weights[:, None] * D), D.T * weights)


def lack_of_fit_variance(D, means, counts, metric, noise):
    """tau2 by moments, in units of the noise of a cell; D is the model matrix on the groups."""
    residuals = means - D @ least_squares(D, counts) @ means
    squares = np.einsum("c,cp,cp->", counts, residuals, np.linalg.solve(metric, residuals.T).T)
    W = np.diag(counts.astype(float))
    slope = np.trace(W - W @ D @ least_squares(D, counts))
    return max((squares / noise - (len(D) - D.shape[1])) / slope, 0.0)


def dense_ratio(
    means,
    groups,
    counts,
    scatter,
    metric,
    effects,
    *,
    objective="ratio",
    penalty=1.0,
    lack_of_fit=0.3,
    weights="random",
    reliability=True,
):
    """Numerator, denominator (p x p), rows that must be zero, and fitted values of every effect, by their definitions.

    ``effects`` are tuples of columns of ``groups``, nuisance effects among them. ``penalty`` is a number or a dict of
    some effects.
    """
    codings = {e: coding(groups, e) for e in effects}
    D = np.hstack([np.ones((len(groups), 1)), *codings.values()])
    df_left = len(groups) - D.shape[1]
    noise = np.trace(np.linalg.solve(metric, scatter))
    w = np.ones(len(groups))
    if objective == "ratio" and weights == "random" and df_left:
        w = 1 / (lack_of_fit_variance(D, means, counts, metric, noise) + 1 / counts)
    maps = least_squares(D, w)
    split = np.cumsum([1, *(c.shape[1] for c in codings.values())])
    maps_of = dict(zip(effects, np.split(maps, split)[1:-1], strict=True))
    parts = {e: b @ means for e, b in maps_of.items()}
    left = means - D @ maps @ means
    lof = left.T @ left / df_left if df_left else np.zeros_like(metric)
    out = {}
    for effect, part in parts.items():
        own = part.T @ part
        if objective == "ratio" and reliability:
            E, N = part @ np.linalg.solve(metric, part.T), noise * maps_of[effect] / counts @ maps_of[effect].T
            half = np.linalg.inv(sl.sqrtm(E).real)
            shares, turn = np.linalg.eigh(half @ N @ half)
            own = part.T @ (turn * np.maximum(1 - shares, 0.01)) @ turn.T @ part
        own, against, nulled = own / len(part), np.zeros_like(metric), [np.empty((0, len(metric)))]
        for other, b in parts.items():
            factor = penalty.get(other, 1.0) if isinstance(penalty, dict) else penalty
            if other == effect:
                continue
            if np.isinf(factor):
                nulled.append(b)
            else:
                against = against + factor * b.T @ b / len(b)
        ratio = own, metric + against + lack_of_fit * lof
        terms = ratio if objective == "ratio" else (own - against, metric)
        out[effect] = *terms, np.vstack(nulled), codings[effect] @ part
    return out


def dense_axes(numerator, denominator, nulled, n_components):
    """The largest values of ``u' N u / u' W u`` with ``nulled @ u = 0``, and the axes (p x k)."""
    free = sl.null_space(nulled, rcond=1e-10) if len(nulled) else np.eye(len(numerator))
    values, v = sl.eigh(free.T @ numerator @ free, free.T @ denominator @ free)
    return values[::-1][:n_components], (free @ v)[:, ::-1][:, :n_components]


def discriminants(x, means, groups, counts, scatter, metric, effects, kind):
    """Discriminants of every group (n x C) with observed, fitted or shrunken means, from the definition."""
    used = effects if kind == "fitted" else [e for e in effects if len(e) == 1]
    D = np.hstack([np.ones((len(groups), 1)), *(coding(groups, e) for e in used)])
    noise = np.trace(np.linalg.solve(metric, scatter))
    A = np.eye(len(groups))
    if kind != "observed":
        tau2 = lack_of_fit_variance(D, means, counts, metric, noise)
        w = 1 / (tau2 + 1 / counts)
        fitted = D @ least_squares(D, w)
        A = fitted if kind == "fitted" else fitted + np.diag(tau2 * w) @ (A - fitted)
    m, x = A @ means - means.mean(axis=0), x - means.mean(axis=0)
    solved = np.linalg.solve(metric, m.T)
    lengths = np.sum(m.T * solved, axis=0) - noise * np.diag(A @ np.diag(1 / counts) @ A.T)
    return x @ solved - lengths / 2


def level_probabilities(delta, groups, counts, factor, prior, temperature=1.0):
    """Posterior of the levels of a factor by brute force; ``prior`` are the shares of its levels."""
    levels = groups[:, factor]
    shares = np.array([prior[v] * n / counts[levels == v].sum() for v, n in zip(levels, counts, strict=True)])
    z = temperature * (delta - delta.max(axis=1, keepdims=True))
    weights = shares * np.exp(z)
    out = np.stack([weights[:, levels == v].sum(axis=1) for v in range(levels.max() + 1)], axis=1)
    return out / out.sum(axis=1, keepdims=True)

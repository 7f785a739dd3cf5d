"""Which transmitters a cell type uses: a mixture model of expression, with levels learnt from all types at once.

Every marker gene is on or off in a type. If on, its level is log-normal around a level of its own; if off, it is absent
or ambient, log-normal around a share of the mean over all cells. Whether genes are on depends on the transmitters of
the type: a transmitter needs one gene of each of its groups. Levels, the share of ambient RNA, the chance of a gene
being on without its transmitter, and the chance that one of several alternative genes is used, are found by
expectation maximisation with priors, so that two types suffice and a hundred decide.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import gammaln, logsumexp

from ._expression import TypeCounts

GRID = np.linspace(np.log(1e-4), np.log(5e3), 121)  # log level, counts per 10,000
# priors, as (value, number of observations that the value is worth)
ON_LEVEL = (np.log(5.0), 3.0)  # median log level of an expressed marker, over all markers
ON_LEVEL_SD = 1.3  # standard deviation of these medians between markers
ON_SPREAD = (0.8, 20.0)  # standard deviation of log levels between types that express a gene, over all genes
OWN_SPREAD = 10.0  # types that the common standard deviation is worth for a single gene
AMBIENT = (np.log(0.05), 20.0)  # log of the share of the mean over all cells
OFF_SPREAD = (1.2, 40.0)
ABSENT = (0.3, 4.0)  # share of types without any ambient RNA of a gene; genes vary around the share of all genes
USED, MAX_USED = (0.7, 4.0), 0.88  # chance that a transmitter uses one of several alternative genes
LEAK = {
    "alone": (0.003, 100.0),
    "required": (0.02, 50.0),
    "required if measured": (0.1, 10.0),
    "supporting": (0.2, 10.0),
    "neuron": (0.1, 20.0),
}
# a gene that alone makes a transmitter is hardly ever on without it
SENSITIVITY = {"required": 0.995, "required if measured": 0.95, "supporting": 0.9, "neuron": 0.95}
MIN_SOUP = 0.01  # smallest mean level over all cells, counts per 10,000
STEP_UP = 1.5  # smallest log ratio of the levels of on and off
# chances of no, one, two and three transmitters in a neuron, worth SETS_WORTH types, and of a type being a neuron
SETS, SETS_WORTH = (0.08, 0.80, 0.11, 0.01), 20.0
SHARES_WORTH = 5.0  # types that the prior shares of the transmitters are worth
MONOAMINES = 0.3  # prior share of all transmitters without a sign of their own
NEURON = 0.9
# log odds are multiplied by this in the end. Likelihood ratios are capped in several places, which makes the model too
# cautious: in simulated atlases, 54 of 55 types between 0.7 and 0.9 were right before
SHARPEN = 1.4
N_ROUNDS = 30


@dataclass
class Group:
    """Genes of which one must be on (columns of the level matrix), and the transmitters that need it."""

    genes: list[int]
    role: str
    transmitters: set[str] = field(default_factory=set)


@dataclass
class Posterior:
    """Probabilities of transmitters and of expressed genes, given the counts.

    Attributes
    ----------
    sets : list of frozenset
        The sets of transmitters, the empty one included.
    posterior : ndarray of shape (T, n_sets)
        Their probabilities given that the type is a neuron.
    neuron : ndarray of shape (T,)
        Probability that the type is a neuron; NaN without neuron markers.
    on : DataFrame
        Probability of every gene being on, types x genes.
    on_level, ambient_level : Series
        Median levels of a gene that is on, and of one that is off (counts per 10,000).
    ratio : DataFrame
        Log likelihood ratio of on against off, types x genes.
    """

    sets: list[frozenset[str]]
    posterior: np.ndarray
    neuron: np.ndarray
    on: pd.DataFrame
    on_level: pd.Series
    ambient_level: pd.Series
    ratio: pd.DataFrame

    def probability(self, transmitter: str) -> np.ndarray:
        """Probability of one transmitter, ``(T,)``."""
        return self.posterior[:, [transmitter in s for s in self.sets]].sum(axis=1)


def fit_transmitters(data: TypeCounts, table: pd.DataFrame) -> Posterior:
    """Posterior of the transmitters of all types, from the counts of the marker genes in ``table``."""
    groups = _groups(table, list(data.levels.columns))
    required = table[(table["role"] == "required") & table["gene"].isin(data.levels.columns)]
    names = list(dict.fromkeys(required["transmitter"]))  # those of which any gene was measured
    sets = [frozenset(s) for k in range(len(SETS)) for s in itertools.combinations(names, k)]
    own = table[table["role"] == "required"].groupby("transmitter")["sign"].first()
    slow = np.array([own[t] == 0 for t in names])
    share = np.where(slow, MONOAMINES / max(slow.sum(), 1), (1 - MONOAMINES * slow.any()) / max((~slow).sum(), 1))
    model = _Model(data, groups, sets, pd.Series(share / share.sum(), index=names))
    for _ in range(N_ROUNDS):
        before = model.on_level.copy()
        model.step()
        if np.abs(model.on_level - before).max(initial=0.0) < 2e-3:
            break
    return model.result()


def _groups(table: pd.DataFrame, genes: list[str]) -> list[Group]:
    """Groups of measured genes; groups of the same genes are one, whichever transmitters need them."""
    position = {g: i for i, g in enumerate(genes)}
    found: dict[tuple[int, ...], Group] = {}
    for (transmitter, _), rows in table.groupby(["transmitter", "group"], sort=False):
        for role, part in rows.groupby("role", sort=False):
            columns = tuple(sorted(position[g] for g in part["gene"] if g in position))
            if columns:
                group = found.setdefault(columns, Group(list(columns), str(role)))
                group.transmitters.add(str(transmitter))
    return list(found.values())


class _Model:
    """Parameters, and one round of expectation maximisation."""

    def __init__(self, data: TypeCounts, groups: list[Group], sets: list[frozenset[str]], share: pd.Series) -> None:
        self.data, self.groups, self.sets = data, groups, sets
        self.share_prior = share.to_numpy()
        self.member = np.array([[t in s for t in share.index] for s in sets])
        G = data.counts.shape[1]
        with np.errstate(divide="ignore"):
            rate = np.exp(GRID)[:, None, None] * data.exposure  # (J, T, G)
            self.poisson = data.counts * np.log(rate) - rate - gammaln(data.counts + 1)
            silent = np.where(data.counts > 0, -np.inf, 0.0)
        self.silent = silent
        needs = Counter(t for g in groups if g.role == "required" for t in g.transmitters)
        role = np.array(["required"] * G, dtype=object)
        for group in groups:
            alone = group.role == "required" and all(needs[t] == 1 for t in group.transmitters)
            role[group.genes] = "alone" if alone else group.role
        self.leak_prior = np.array([LEAK[r] for r in role])
        self.leak = self.leak_prior[:, 0].copy()
        self.used = np.full(G, USED[0])
        self.absent = np.full(G, ABSENT[0])
        self.on_spread = np.full(G, ON_SPREAD[0])
        self.off_spread, self.ambient = OFF_SPREAD[0], float(AMBIENT[0])
        self.soup = np.log(np.maximum(data.soup, MIN_SOUP))
        self.seen = data.soup > MIN_SOUP  # a gene that nobody expresses says nothing about ambient RNA
        # a start between the prior and the level of the upper types: robust to one loud type and to one quiet one
        high = np.log(np.maximum(np.quantile(data.levels.to_numpy(), 0.9, axis=0), 1e-6))
        self.on_level = np.maximum((high + ON_LEVEL[0]) / 2, self.floor)
        self.common_level, self.n_on = ON_LEVEL[0], np.zeros(G)
        self.transmitting = role != "neuron"
        active = np.array([[bool(group.transmitters & s) for group in groups] for s in sets])
        self.active = active[:, [g.role != "neuron" for g in groups]]
        self.size = self.member.sum(axis=1)
        self.prior = self._prior(np.array(SETS), self.share_prior)
        self.expect()

    def _prior(self, sizes: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Log prior of every set, from the chances of its size and the shares of its transmitters."""
        weight = self.member @ np.log(share)
        log = np.full(len(self.sets), -np.inf)
        for k, chance in enumerate(sizes):
            own = self.size == k
            if own.any():
                log[own] = np.log(chance) + weight[own] - logsumexp(weight[own])
        return log - logsumexp(log)

    @property
    def floor(self) -> np.ndarray:
        """Smallest admissible level of a gene that is on."""
        return np.maximum(self.soup + self.ambient + STEP_UP, np.log(0.05))

    def expect(self) -> None:
        """Likelihoods of on and off for every type and gene, and posteriors of sets and genes."""
        # the level of a gene that few types express is uncertain, which widens what is expected of another type
        uncertain = self.on_spread**2 / (self.n_on + self.on_spread**2 / ON_LEVEL_SD**2)
        on = _normal(GRID[:, None], self.on_level, np.sqrt(self.on_spread**2 + uncertain))  # (J, G)
        off = _normal(GRID[:, None], self.soup + self.ambient, self.off_spread)
        joint_on = self.poisson + on[:, None, :]
        joint_off = self.poisson + off[:, None, :]
        self.at_on, l_on = _normalised(joint_on)
        self.at_off, l_ambient = _normalised(joint_off)
        l_ambient = l_ambient + np.log1p(-self.absent)
        l_off = np.logaddexp(l_ambient, self.silent + np.log(self.absent))
        self.share_ambient = np.exp(l_ambient - l_off)
        # no ratio is believed beyond e^9: the levels of a real atlas have errors that no model of noise contains
        self.ratio = np.clip(l_on - l_off, -9, 9)
        odds = np.exp(self.ratio)
        likelihood, given = [], []
        for group in self.groups:
            likelihood.append(self._group(group, odds))
            given.append(self._genes(group, odds))
        logs = np.log(np.array(likelihood))  # (groups, 2, T): inactive, active
        neural = np.array([g.role == "neuron" for g in self.groups])
        score = self.prior + sum(
            np.where(self.active[:, i], logs[k, 1][:, None], logs[k, 0][:, None])
            for i, k in enumerate(np.flatnonzero(~neural))
        )
        self.score = score
        self.posterior = np.exp(score - logsumexp(score, axis=1, keepdims=True))
        self.neuron = np.full(len(odds), np.nan)
        if neural.any():  # the markers of neurons go together: all of them are worth two
            weight = min(1.0, 2 / neural.sum())
            self.neuron = 1 / (
                1 + np.exp(-np.log(NEURON / (1 - NEURON)) - weight * (logs[neural, 1] - logs[neural, 0]).sum(axis=0))
            )
        # probability of genes being on, and of their group being active
        self.group_active = np.zeros((len(self.groups), len(odds)))
        self.on = np.zeros_like(odds)
        self.on_active = np.zeros_like(odds)
        column = iter(range(self.active.shape[1]))
        for k, group in enumerate(self.groups):
            p = (
                np.where(np.isnan(self.neuron), 1.0, self.neuron)
                if neural[k]
                else self.posterior @ self.active[:, next(column)]
            )
            self.group_active[k] = p
            inactive, active = given[k]
            self.on[:, group.genes] = p[:, None] * active + (1 - p)[:, None] * inactive
            self.on_active[:, group.genes] = p[:, None] * active

    def _group(self, group: Group, odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Likelihood of a group if no transmitter needs it, and if one does, over that of all genes being off."""
        o, used, leak = odds[:, group.genes], self._used(group), self.leak[group.genes]
        inactive = np.prod(leak * o + 1 - leak, axis=1)
        none = np.prod(1 - used)
        some = (np.prod(used * o + 1 - used, axis=1) - none) / (1 - none)
        sensitivity = SENSITIVITY[group.role]
        return inactive, sensitivity * some + 1 - sensitivity

    def _genes(self, group: Group, odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of every gene of a group being on, if the group is inactive and if it is active."""
        o, used, leak = odds[:, group.genes], self._used(group), self.leak[group.genes]
        inactive = leak * o / (leak * o + 1 - leak)
        mixed = used * o + 1 - used
        others = np.stack([np.prod(np.delete(mixed, j, axis=1), axis=1) for j in range(len(used))], axis=1)
        total = self._group(group, odds)[1][:, None]
        active = SENSITIVITY[group.role] * used * o * others / (1 - np.prod(1 - used)) / total
        return inactive, active

    def _used(self, group: Group) -> np.ndarray:
        return self.used[group.genes] if len(group.genes) > 1 else np.ones(1)

    def step(self) -> None:
        """Parameters from posteriors, then posteriors from parameters."""
        on, off = self.on, (1 - self.on) * self.share_ambient * self.seen
        mean, square = _moments(self.at_on)
        self.n_on = n = on.sum(axis=0)
        weight = self.on_spread**2 / ON_LEVEL_SD**2
        level = ((on * mean).sum(axis=0) + weight * self.common_level) / (n + weight)
        self.on_level = np.maximum(level, self.floor)
        known = np.where(self.transmitting, n / (n + weight), 0.0)
        self.common_level = float((known @ level + ON_LEVEL[0] * ON_LEVEL[1]) / (known.sum() + ON_LEVEL[1]))
        about = square - 2 * mean * self.on_level + self.on_level**2
        square = (on * about).sum(axis=0)
        shared = (square.sum() + ON_SPREAD[1] * ON_SPREAD[0] ** 2) / (n.sum() + ON_SPREAD[1])
        self.on_spread = np.sqrt((square + OWN_SPREAD * shared) / (n + OWN_SPREAD))
        mean, square = _moments(self.at_off)
        drawn = (off * (mean - self.soup)).sum() + AMBIENT[0] * AMBIENT[1]
        self.ambient = float(drawn / (off.sum() + AMBIENT[1]))
        centre = self.soup + self.ambient
        about = square - 2 * mean * centre + centre**2
        worth = OFF_SPREAD[1] * OFF_SPREAD[0] ** 2
        self.off_spread = float(np.sqrt(((off * about).sum() + worth) / (off.sum() + OFF_SPREAD[1])))
        silent = (1 - self.on) * self.seen
        empty, out = (silent * (1 - self.share_ambient)).sum(axis=0), silent.sum(axis=0)
        common = (empty.sum() + ABSENT[0] * ABSENT[1]) / (out.sum() + ABSENT[1])
        self.absent = (empty + common * ABSENT[1]) / (out + ABSENT[1])
        for k, group in enumerate(self.groups):
            p = self.group_active[k]
            leaked = (self.on - self.on_active)[:, group.genes].sum(axis=0)
            prior = self.leak_prior[group.genes]
            self.leak[group.genes] = (leaked + prior[:, 0] * prior[:, 1]) / ((1 - p).sum() + prior[:, 1])
            if len(group.genes) > 1:
                use = self.on_active[:, group.genes].sum(axis=0)
                self.used[group.genes] = np.clip((use + USED[0] * USED[1]) / (p.sum() + USED[1]), 0.02, MAX_USED)
        neuron = np.where(np.isnan(self.neuron), 1.0, self.neuron)
        found = neuron @ self.posterior
        sizes = np.bincount(self.size, found, minlength=len(SETS)) + SETS_WORTH * np.array(SETS)
        share = found @ self.member + SHARES_WORTH * self.share_prior
        self.prior = self._prior(sizes / sizes.sum(), share / share.sum())
        self.expect()

    def result(self) -> Posterior:
        index, genes = self.data.levels.index, self.data.levels.columns
        score = SHARPEN * self.score
        return Posterior(
            self.sets,
            np.exp(score - logsumexp(score, axis=1, keepdims=True)),
            self.neuron,
            pd.DataFrame(self.on, index=index, columns=genes),
            pd.Series(np.exp(self.on_level), index=genes),
            pd.Series(np.exp(self.soup + self.ambient), index=genes),
            pd.DataFrame(self.ratio, index=index, columns=genes),
        )


def _normal(u: np.ndarray, mean: np.ndarray, sd: np.ndarray | float) -> np.ndarray:
    """Log of the normal density on the grid u (along rows), normalised to sum to one on it."""
    density = -0.5 * ((u - mean) / sd) ** 2
    return density - logsumexp(density, axis=0)


def _normalised(log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities on the grid (first axis) from logs, which are overwritten, and the log of their sum."""
    top = log.max(axis=0)
    log -= top
    np.exp(log, out=log)
    total = log.sum(axis=0)
    log /= total
    return log, top + np.log(total)


def _moments(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of the log level under probabilities on the grid, ``(J, T, G)`` to ``(T, G)`` each."""
    flat = np.stack([GRID, GRID**2]) @ p.reshape(len(GRID), -1)
    return flat[0].reshape(p.shape[1:]), flat[1].reshape(p.shape[1:])

"""Comparison of results of the GPU with those of the CPU, for ``gpu.py``."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scale import FACTORS, G, simulated

from flda import FLDA, SparseFLDA
from flda._data import arrays, device
from flda.inference import effect_tests

DIFFERENCE = "difference"  # ending of the columns that are checked
GAP = 0.05  # effort for the gaps
EQUAL = 1e-6  # largest difference of eigenvalues, of 1 - cos of axes, and of statistics (relative)


class Unequal(Exception):
    """A result of the GPU differs from that of the CPU."""


def cells(n_cells: int, n_genes: int, density: float = 0.2) -> tuple[sp.csr_matrix, pd.DataFrame]:
    X, y = simulated(n_cells, n_genes, density)
    X.sum_duplicates()
    return X, y[FACTORS]


def resident(X):
    """A matrix on the device, and the seconds that its transfer took."""
    import cupy
    from cupyx.scipy.sparse import csr_matrix

    start = time.perf_counter()
    there = csr_matrix(X) if sp.issparse(X) else cupy.asarray(X)
    cupy.cuda.Device().synchronize()
    return there, time.perf_counter() - start


def of_fit(model: FLDA) -> dict[str, np.ndarray]:
    found = {"eigenvalues": model.eigenvalues_, "axes": model.components_, "shrinkage": np.array([model.shrinkage_])}
    return found | ({"gaps": model.optimality_gap_.to_numpy()} if isinstance(model, SparseFLDA) else {})


def of_tests(found) -> dict[str, np.ndarray]:
    numbers = pd.concat([found.table.select_dtypes("number"), found.genes.select_dtypes("number")])
    return {name: values.to_numpy() for name, values in numbers.items()}


def difference(name: str, found: np.ndarray, expected: np.ndarray, n_resamples: int) -> float:
    """The difference of two results in the measure of their kind; infinite if they do not even have the same form."""
    if found.shape != expected.shape:
        return np.inf
    finite = np.isfinite(expected) & np.isfinite(found)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return np.inf
    found, expected = (a[finite] if a.ndim == 1 else a for a in (found, expected))
    if not found.size:
        return 0.0
    if name == "gaps":  # where the iterations for a bound end depends on rounding
        return float(EQUAL * np.max(np.abs(found - expected)) / 1e-3)
    if name == "axes":  # 1 - cos, from a difference that does not cancel
        units = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (found, expected)]
        return float(np.max(np.sum((units[0] - units[1]) ** 2, axis=1)) / 2)
    if name.startswith("pval"):  # rounding may break a tie, which moves a count by one, and adjusted values a little
        return float(EQUAL * np.max(np.abs(found - expected)) * (n_resamples + 1) / 20)
    return float(np.max(np.abs(found - expected)) / max(np.abs(expected).max(), 1e-300))


def largest(found: dict, expected: dict, n_resamples: int = 0) -> float:
    """The largest difference of all results of one work."""
    return max(difference(name, found[name], expected[name], n_resamples) for name in expected)


def check(rows: list[dict]) -> None:
    """Raise Unequal if a difference in some rows is too large, or is not a number."""
    numbers = [(row, v) for row in rows for key, v in row.items() if key.endswith(DIFFERENCE)]
    if wrong := [row for row, value in numbers if not value <= EQUAL]:
        raise Unequal(f"differences above {EQUAL:g}: {wrong}")


def equality(sizes: tuple[int, int], few: int) -> Iterator[dict]:
    """Every kind of fit and test, and every kind of storage; ``few`` is the number of resamples of tests."""
    n, p = sizes
    X, y = cells(n, p)
    wide, y_wide = cells(p, n)
    rng = np.random.default_rng(0)
    aged = y.assign(age=rng.normal(size=n) + (y["axon"] == "0"))
    aged_wide = y_wide.assign(age=rng.normal(size=p) + (y_wide["axon"] == "0"))
    donors = y["dendrite"].to_numpy(dtype=str).astype(object) + rng.integers(6, size=n).astype(str)
    age = {"nuisance": ["age"], "numeric": ["age"]}
    simple = {"simple": ({"dendrite": "0", "axon": "0"}, {"dendrite": "1", "axon": "0"})}
    problems = {"primal": (X, y, aged), "dual": (wide, y_wide, aged_wide), "iterative": (wide, y_wide, aged_wide)}

    def fit(model, labels, groups=None):
        return lambda X: of_fit(model.fit(X, labels, groups))

    def test(model, labels, donor=None, **options):
        return lambda X: of_tests(effect_tests(model, X, labels, donor, n_resamples=few, **options))

    cases = []
    for solver, (data, labels, with_age) in problems.items():
        one = {"solver": solver, "shrinkage": G}
        cases += [
            (f"{solver}, fixed shrinkage", data, fit(FLDA(**one), labels)),
            (f"{solver}, folds", data, fit(FLDA(solver=solver, shrinkage="cv"), labels)),
            (f"{solver}, covariate", data, fit(FLDA(**one, **age), with_age)),
            (f"{solver}, balanced, identity", data,
             fit(FLDA(**one, within="balanced", shrinkage_target="identity"), labels)),
            (f"{solver}, sparse axes and gaps", data,
             fit(SparseFLDA(n_genes=10, gap_effort=GAP, **one), labels)),
        ]  # fmt: skip
    cases += [
        ("dual, covariate, folds", wide, fit(FLDA(solver="dual", shrinkage="cv", **age), aged_wide)),
        ("donors, folds", X, fit(FLDA(shrinkage="cv"), y, donors)),
        ("ledoit-wolf", X, fit(FLDA(shrinkage="ledoit-wolf"), y)),
        ("shrunken means", X, fit(FLDA(shrinkage=G, group_means="shrunken"), y)),
        ("named contrast, weights", X, fit(FLDA(shrinkage=G, contrasts=simple), y)),
        ("marker genes", X, fit(SparseFLDA(n_genes=10, gap_effort=GAP, mode="marker", shrinkage=G), y)),
        ("flips of cells", X, test(FLDA(shrinkage=G), y)),
        ("flips of cells, covariate", X, test(FLDA(shrinkage=G, **age), aged)),
        ("flips of donors", X, test(FLDA(shrinkage=G), y, donors)),
        ("permutations", X, test(FLDA(shrinkage=G, interactions=None), y, method="permutation")),
    ]
    rows = []
    for name, data, work in cases:
        expected = work(data)
        kinds = {"dense, sent": device.OnDevice(data.toarray()), "CSR, there": resident(data)[0]}
        if "fixed" in name or name == "flips of cells":  # the others differ in nothing that depends on the storage
            kinds["CSR, sent"] = device.OnDevice(data)
            kinds["float32, there"] = resident(data.toarray().astype(np.float32))[0]
            if not name.startswith("dual"):
                kinds["CSR, streamed"] = device.OnDevice(arrays.Stream.of(data))
        found = {f"{kind}: {DIFFERENCE}": largest(work(there), expected, few) for kind, there in kinds.items()}
        rows.append({"case": name} | found)
        yield rows[-1]
    check(rows)

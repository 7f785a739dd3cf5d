"""Compare every number of this tree with those of an earlier version, on frozen inputs.

    python benchmarks/compare_versions.py [--base fdb5006] [--current COMMIT] [--only WORD] [--keep FOLDER]

Checks the base out into a temporary folder, runs ``version_scenarios.py`` once with each tree, and compares what they
wrote: numbers to 1e-10 of the largest of their column or matrix, text exactly, signs of axes included. A difference
that is meant stands in ``EXPECTED`` with its reason. The exit status is 1 if anything else differs, and also if
something that stands there no longer does. ``--current`` takes a commit instead of the working tree; a version compared
with itself must show no difference at all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE = "fdb5006"  # the last commit of version 0.1
TOLERANCE = 1e-10
RUNNER = Path(__file__).with_name("version_scenarios.py")


@dataclass(frozen=True)
class Expected:
    """Why numbers differ from those of the base on purpose.

    Attributes
    ----------
    where
        Patterns of ``scenario|quantity``, as of file names; each must match a difference.
    reason
        What was wrong, or what was decided, in one sentence.
    at_most
        The largest relative difference that the reason explains.
    """

    where: tuple[str, ...]
    reason: str
    at_most: float = float("inf")


EXPECTED: dict[str, Expected] = {
    "folds": Expected(
        ("*shrinkage_path_.criterion",),
        "Folds of over 600 rows are solved in a Krylov space to 1e-2, since the criterion needs three digits only.",
        at_most=1e-2,
    ),
    "predictions": Expected(
        ("*predict", "*predict_proba", "*score", "*accuracy"),
        "Predictions have means, shrinkage and temperatures of their own, and take the noise of the means off.",
    ),
    "least effect of shrunken means": Expected(
        ("shrunken means t4t5|*_", "shrunken means t4t5|transform"),
        "The prior leaves every effect a hundredth of its noise, so that an effect that is absent still has axes.",
        at_most=1e-3,
    ),
}


@dataclass(frozen=True)
class Difference:
    """One quantity of the base and of the current tree: relative difference, and what kind of difference it is."""

    name: str
    size: float
    kind: str

    @property
    def matters(self) -> bool:
        """Whether it is more than rounding; what only the current version has is none."""
        return not self.size <= TOLERANCE


def difference(name: str, base: np.ndarray | None, current: np.ndarray | None) -> Difference:
    """How far two arrays differ, relative to the largest finite number of the base."""
    if current is None:
        return Difference(name, np.inf, "missing")
    if base is None:
        raises = name.endswith(".raises")
        return Difference(name, np.inf if raises else 0.0, "raises now" if raises else "new")
    if base.shape != current.shape:
        return Difference(name, np.inf, f"shape {base.shape} -> {current.shape}")
    if base.dtype.kind == "U" or current.dtype.kind == "U":
        differs = base.astype(str) != current.astype(str)
        if not differs.any():
            return Difference(name, 0.0, "")
        first = tuple(np.argwhere(differs)[0])
        return Difference(
            name, np.inf, f"{differs.sum()} of {base.size} texts, {base[first]!s:.60} -> {current[first]!s:.60}"
        )
    a, b = base.astype(np.float64), current.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))  # infinities too
    if same.all():
        return Difference(name, 0.0, "")
    finite = np.isfinite(a) & np.isfinite(b)
    if not (same | finite).all():
        return Difference(name, np.inf, f"{np.sum(~(same | finite))} of {a.size} finite in one only")
    scale = np.abs(a[finite]).max() or 1.0
    size = float(np.abs(a - b)[finite].max() / scale)
    kind = "value"
    if size > TOLERANCE and np.abs(np.abs(a) - np.abs(b))[finite].max() / scale <= TOLERANCE:
        kind = "sign only"
    return Difference(name, size, kind)


def compare(base: Mapping[str, np.ndarray], current: Mapping[str, np.ndarray]) -> list[Difference]:
    """All quantities of both versions, in the order of the base."""
    return [difference(name, base.get(name), current.get(name)) for name in dict.fromkeys([*base, *current])]


def explain(
    found: Iterable[Difference], expected: Mapping[str, Expected]
) -> tuple[dict[str, list[Difference]], list[Difference], list[str]]:
    """Differences by the reason that explains them, those that none does, and the patterns that explain nothing."""
    explained: dict[str, list[Difference]] = {name: [] for name in expected}
    unexpected, used = [], set()
    for one in found:
        if not one.matters:
            continue
        reasons = [
            (name, pattern)
            for name, reason in expected.items()
            for pattern in reason.where
            if fnmatchcase(one.name, pattern) and one.size <= reason.at_most
        ]
        used.update(reasons)
        for name in {name for name, _ in reasons}:
            explained[name].append(one)
        if not reasons:
            unexpected.append(one)
    stale = [f"{n}: {p}" for n, reason in expected.items() for p in reason.where if (n, p) not in used]
    return explained, unexpected, stale


def rows(found: Iterable[Difference]) -> Iterator[tuple[str, str, float, int]]:
    """Scenario, quantity, largest difference and number of arrays; columns of a table, or all of a fit, are one."""
    of: dict[tuple[str, str], list[float]] = {}
    for one in found:
        scenario, _, quantity = one.name.partition("|")
        of.setdefault((scenario, re.split(r"[./]", quantity)[0]), []).append(one.size)
    for (scenario, quantity), sizes in of.items():
        yield scenario, quantity, max(sizes), len(sizes)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit in a folder of its own."""
    git("worktree", "add", "--detach", "--force", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def start(tree: Path, out: Path, only: str) -> subprocess.Popen:
    """Run all scenarios with the package of a tree, in a process of one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(RUNNER), str(out), "--only", only]
    return subprocess.Popen(command, env=environment, cwd=out.parent)


def read(out: Path, tree: Path) -> tuple[dict[str, np.ndarray], dict]:
    about = json.loads((out / "about.json").read_text("utf-8"))
    if Path(about["tree"]).resolve() != tree.resolve():
        sys.exit(f"the package was imported from {about['tree']}, not from {tree}")
    with np.load(out / "numbers.npz") as stored:
        return {name: stored[name] for name in stored.files}, about


def report(found: list[Difference], expected: Mapping[str, Expected], messages: Mapping[str, str]) -> bool:
    """Print the table and what it means; whether all is as expected."""
    print(f"{'scenario':38s}{'quantity':34s}{'arrays':>7s}  largest difference")
    for scenario, quantity, size, n in rows(found):
        print(f"{scenario:38s}{quantity:34s}{n:7d}  {size:.1e}" + ("" if size <= TOLERANCE else "  *"))
    explained, unexpected, stale = explain(found, expected)
    new = [one for one in found if one.kind == "new"]
    rounding = max((one.size for one in found if not one.matters), default=0.0)
    print(f"\n{len(found)} arrays; the largest difference that counts as rounding is {rounding:.1e}")
    if new:
        print(f"\nonly the current version has these {len(new)} arrays:")
        for scenario, quantity, _, n in rows(new):
            print(f"  {scenario}|{quantity}: {n}")
    for name, reason in expected.items():
        sizes = [one.size for one in explained[name]]
        print(f"\nexpected, {name}: {reason.reason}")
        print(f"  {len(sizes)} arrays differ, by up to {max(sizes, default=0):.1e}")
    if stale:
        print("\nexpected, but nothing like it differs any more; remove it from EXPECTED:")
        print("\n".join(f"  {line}" for line in stale))
    if unexpected:
        print(f"\nunexpected differences in {len(unexpected)} arrays:")
        for one in unexpected:
            message = messages.get(one.name.removesuffix(".raises"), "")
            print(f"  {one.name}  {one.size:.1e}  {one.kind}" + (f"  ({message:.200})" if message else ""))
    return not unexpected and not stale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=BASE, help=f"commit to compare with (default {BASE}, version 0.1)")
    parser.add_argument("--current", help="commit to compare (default: the working tree)")
    parser.add_argument("--only", default="", help="run the scenarios whose names hold this word")
    parser.add_argument("--keep", type=Path, help="keep the numbers of both versions in this folder")
    arguments = parser.parse_args()
    itself = arguments.current and git("rev-parse", arguments.base) == git("rev-parse", arguments.current)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = folder / "results" if arguments.keep is None else arguments.keep.resolve()
        results.mkdir(parents=True, exist_ok=True)
        with checked_out(arguments.base, folder / "base") as base_tree:
            if arguments.current:
                with checked_out(arguments.current, folder / "current") as tree:
                    outputs = run_both(base_tree, tree, results, arguments.only)
            else:
                outputs = run_both(base_tree, ROOT, results, arguments.only)
    (base, _), (current, about) = outputs
    # a part of the scenarios need not show every expected difference, nor a version compared with itself
    expected = {} if itself else EXPECTED
    if arguments.only:
        shown = {name for name, one in explain(compare(base, current), expected)[0].items() if one}
        expected = {name: one for name, one in expected.items() if name in shown}
    if not report(compare(base, current), expected, about["messages"]):
        sys.exit(1)


def run_both(base: Path, current: Path, results: Path, only: str) -> list[tuple[dict[str, np.ndarray], dict]]:
    """Numbers of both trees, made at the same time."""
    trees = {"base": base, "current": current}
    running = {name: start(tree, results / name, only) for name, tree in trees.items()}
    failed = [name for name, process in running.items() if process.wait()]
    if failed:
        sys.exit(f"the scenarios did not end with the tree of {' and '.join(failed)}")
    return [read(results / name, tree) for name, tree in trees.items()]


if __name__ == "__main__":
    main()

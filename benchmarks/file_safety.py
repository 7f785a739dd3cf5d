"""What a results folder holds after ``flda run`` is killed or cannot write on: the old result or the new.

Every trial starts ``flda run --overwrite`` on a folder that holds an earlier result, disturbs it at a random moment
(half of the moments lie in the last tenth of its time, in which files are written), and reads the folder: it must be
exactly the earlier result or a complete new one, and a following undisturbed run must leave nothing beside it.
Where file systems can be mounted, the folder is one of its own, which becomes read-only at such a moment, too.

    python benchmarks/file_safety.py --trials 10
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import flda
from flda.cli import main

OPTIONS = ["--factors", "dendrite", "axon", "--shrinkage", "0.5", "--n-genes", "3", "--overwrite"]


def start(arguments: list[str], prepare: Callable[[], None], log: Path) -> int:
    """Run the command line in a process of its own, which has imported flda already; returns its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
        sys.stdout = sys.stderr = stream = log.open("w")
        flda.report.pictures = lambda adata: []  # figures take most of the time, and are files like the others
        prepare()
        status = main(arguments)
        stream.flush()
    except BaseException:  # noqa: BLE001  a signal outside main, or a fault
        traceback.print_exc(file=log.open("a"))
    finally:
        os._exit(status)  # what this process inherited belongs to its parent


def state(folder: Path) -> str:
    """``absent``, ``torn``, or the hash of a complete result."""
    if not folder.exists():
        return "absent"
    try:
        files = json.loads((folder / "summary.json").read_text())["files"]
        for name, expected in files.items():
            data = (folder / name).read_bytes()
            if expected is not None and hashlib.sha256(data).hexdigest() != expected:
                return "torn"
    except (OSError, ValueError, KeyError):
        return "torn"
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    if there != set(files):
        return "torn"
    return hashlib.sha256((folder / "summary.json").read_bytes()).hexdigest()  # holds the seed and all other hashes


def moment(seconds: float, rng: random.Random) -> float:
    return rng.uniform(0.9 * seconds, 1.05 * seconds) if rng.random() < 0.5 else rng.uniform(0, 0.9 * seconds)


def remount(folder: Path, how: str) -> bool:
    """Make a file system read-only or writable again; returns whether that was possible."""
    return subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], capture_output=True).returncode == 0


@contextlib.contextmanager
def file_system() -> Iterator[tuple[Path, bool]]:
    """A temporary folder, and whether it is a file system of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        try:
            yield Path(folder), done.returncode == 0
        finally:
            if done.returncode == 0:
                subprocess.run(["umount", folder], check=True)


def trials(n: int, seed: int, work: Path, mounted: bool) -> tuple[Counter, list[str]]:
    """Disturb runs in every way; returns how often each outcome was seen, and what the commands said."""
    rng, found, said = random.Random(seed), Counter(), []
    cells, out, log = work / "cells.h5ad", work / "results", work.with_name(f"{work.name}.log")
    flda.datasets.t4t5_simulated(n_obs=300, n_vars=60).write_h5ad(cells)

    def wait(process: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def run(seed: int, prepare: Callable[[], None] = lambda: None) -> int:
        return start(["run", str(cells), *OPTIONS, "--seed", str(seed), "--out", str(out)], prepare, log)

    begin = time.perf_counter()
    assert wait(run(0)) == 0, log.read_text()
    seconds, old, size = time.perf_counter() - begin, state(out), (out / "result.h5ad").stat().st_size

    def check(kind: str, changed_seed: int) -> None:
        nonlocal old
        now = state(out)
        beside = sorted(p.name for p in work.iterdir() if p not in (cells, out))
        outcome = "old" if now == old else now if now in ("absent", "torn") else "new"
        found[kind, outcome, "temporary folder beside it" if beside else "nothing beside it"] += 1
        if outcome == "new":
            old = now

    for trial in range(1, n + 1):
        for kind, number in {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}.items():
            process = run(trial)
            time.sleep(moment(seconds, rng))
            os.kill(process, number)
            wait(process)
            check(kind, trial)
        limit = rng.randrange(1, 2 * size)

        def no_room(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        code = wait(run(trial, no_room))
        check("no room for a file", trial)
        if code:
            said.append(log.read_text().strip().splitlines()[-1] if log.stat().st_size else "(no room for the log)")
        if not mounted:
            continue
        process, until = run(trial), time.perf_counter() + moment(seconds, rng)
        code = None
        while code is None:
            time.sleep(0.001)
            if time.perf_counter() > until and remount(work, "ro"):  # not while a file is open for writing
                code = wait(process)
            elif (ended := os.waitpid(process, os.WNOHANG)) != (0, 0):
                code = os.waitstatus_to_exitcode(ended[1])
        remount(work, "rw")
        check("read-only", trial)
        if code:
            said.append(log.read_text().strip().splitlines()[-1])
    assert wait(run(n + 1)) == 0, log.read_text()
    log.unlink()
    check("at the end, undisturbed", n + 1)
    return found, sorted(set(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        main(["datasets", "list"])  # imports what the command line needs
    with file_system() as (folder, mounted):
        counts, messages = trials(args.trials, args.seed, folder, mounted)
        for (kind, outcome, beside), n in sorted(counts.items()):
            print(f"{kind:<26} {outcome:<7} {beside:<28} {n}")
        print("messages:", *[m.replace(str(folder), "") for m in messages], sep="\n  ")
    if any(outcome not in ("old", "new") for _, outcome, _ in counts):
        sys.exit("a result was lost")

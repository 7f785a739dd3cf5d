"""Wheels of flda and of what a machine without a network lacks for ``benchmarks/gpu.py``.

    python -m pip list --format=freeze > there.txt                 # on the machine with the GPU
    python benchmarks/gpu_wheels.py --have there.txt --out wheels  # here, where there is a network
    python -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=.:site python benchmarks/gpu.py --out results       # there, in a copy of the repository

``there.txt`` may also hold bare names, one a line. Versions in it are kept, so that what is carried goes with what is
there. Fails if the wheels take more than ``--limit`` MiB.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ("pytest", "pytest-xdist", "hypothesis")  # what the tests of the device need besides
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)  # pip matches the version in the name of a wheel exactly


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def present(path: Path | None) -> dict[str, str]:
    """The packages of the machine, each with its version or an empty string."""
    lines = [] if path is None else path.read_text().split("\n")
    found = [re.match(r"([A-Za-z0-9._-]+)\s*(?:==\s*(\S+))?", line.strip()) for line in lines]
    return {canonical(m[1]): m[2] or "" for m in found if m}


def target(python: str) -> list[str]:
    names = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
    names += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    return options + [part for name in names for part in ("--platform", name)]


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--have", type=Path, help="list of the packages of the machine")
    parser.add_argument("--out", type=Path, default=Path("wheels"))
    parser.add_argument("--python", default="3.12", help="Python of the machine (default 3.12)")
    parser.add_argument("--limit", type=float, default=64, help="MiB that may travel (default 64)")
    args = parser.parse_args()
    have = present(args.have)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder) / "constraints.txt", Path(folder) / "report.json"
        # a local version, such as 2.11.0+cu130, is in no index
        fixed = [f"{name}=={version}" for name, version in have.items() if version and "+" not in version]
        constraints.write_text("\n".join(fixed))
        pip(
            "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report), "--target", folder,
            "--constraint", str(constraints), *target(args.python), *needed, *TESTS,
        )  # fmt: skip
        chosen = {i["metadata"]["name"]: i["metadata"]["version"] for i in json.loads(report.read_text())["install"]}
    missing = [f"{name}=={version}" for name, version in chosen.items() if canonical(name) not in have]
    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.glob("*.whl"):  # two versions of one package stop the installation
        old.unlink()
    pip("download", "--quiet", "--no-deps", "--dest", str(args.out), *target(args.python), *missing)
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(args.out), str(ROOT))
    size = sum(path.stat().st_size for path in args.out.glob("*.whl")) / 2**20
    print(f"flda and {len(missing)} other wheels, {size:.1f} MiB, in {args.out}: {' '.join(missing)}")
    if size > args.limit:
        raise SystemExit(f"the wheels take more than {args.limit:g} MiB; name more packages in --have")


if __name__ == "__main__":
    main()

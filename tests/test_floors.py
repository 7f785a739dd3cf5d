"""The constraints of the leg with the lowest versions are those of pyproject.toml."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("scanpy", "dask", "circuits", "data", "formula", "test")


def test_minimum_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(d for e in EXTRAS for d in project["optional-dependencies"][e])]
    found = [re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)$", line) for line in wanted if not line.startswith("flda[")]
    lines = (ROOT / ".ci" / "minimum.txt").read_text("utf-8").splitlines()
    assert sorted(f"{m[1]}=={m[2]}" for m in found) == sorted(line for line in lines if not line.startswith("#"))

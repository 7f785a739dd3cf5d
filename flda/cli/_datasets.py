"""``flda datasets``: which data sets there are, where their files are, and whether these are whole."""

from __future__ import annotations

import argparse

from .. import datasets
from ._folder import UsageError


def list_datasets(args: argparse.Namespace) -> None:
    """Print the data sets that can be fetched."""
    for name, manifest in datasets.manifests().items():
        sizes = [f["bytes"] for f in manifest["files"]]
        size = f"{sum(sizes) / 1e6:,.1f} MB" if all(isinstance(s, int) for s in sizes) else "size unknown"
        print(f"{name:<24} {size:>12}  {manifest['licence']:<12} {manifest['title']}")


def fetch_dataset(args: argparse.Namespace) -> None:
    """Find or download, and verify, every file of a data set; downloads go to FLDA_DATA_DIR if that is set."""
    for entry in _manifest(args.name)["files"]:
        print(datasets.fetch(args.name, entry["name"], download=True))


def verify_datasets(args: argparse.Namespace) -> None:
    """Compare the files of data sets that are present with their checksums, without using the network.

    For a single data set, also say what it should hold, and with ``--load`` whether it does.
    """
    bad = []
    for name in [args.name] if args.name else datasets.manifests():
        _manifest(name)
        for row in datasets.verify(name).itertuples():
            print(f"{name:<24} {row.file:<50} {row.status}")
            if row.status == "damaged" or (args.name and row.status == "missing"):
                bad.append(f"{row.file} is {row.status}")
    if args.name:
        table = datasets.expected(args.name, load=args.load and not bad)
        for row in table.itertuples():
            print(f"  {row.what:<28} {row.expected}{f'  found {row.found}: {row.status}' if row.found else ''}")
            if row.status == "different":
                bad.append(f"{row.what}: {row.found} instead of {row.expected}")
        for line in _manifest(args.name).get("expect", []):
            print(f"  {line}")
    if bad:
        raise UsageError("; ".join(bad))


def _manifest(name: str) -> dict:
    known = datasets.manifests()
    if name not in known:
        raise UsageError(f"unknown data set {name!r}; known: {', '.join(known)}")
    return known[name]

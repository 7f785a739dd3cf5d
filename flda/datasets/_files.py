"""Files of public data sets: found or downloaded, and verified against their manifests."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from .._logging import get_logger
from ._download import Resumable

logger = get_logger(__name__)

UNKNOWN = "unknown: recorded on first download"


def manifests() -> dict[str, dict]:
    """The manifest of every data set that :func:`fetch` knows, by name.

    A manifest is a JSON file that follows ``manifest.schema.json``: what the data are, whom to cite, the licence, the
    loader, the expected shape and factors, and for every file its URL, size and sha256. Where nobody has recorded a
    file's checksum it says ``"unknown: recorded on first download"``.

    Examples
    --------
    >>> manifests()["rnamix"]["accession"]
    'GEO GSE118767'
    """
    names = [f for f in _folder().iterdir() if f.name.endswith(".json") and not f.name.endswith(".schema.json")]
    found = [json.loads(f.read_text("utf-8")) for f in names]
    return {m["name"]: m for m in sorted(found, key=lambda m: m["name"])}


def fetch(name: str, file: str, *, data_dir: str | os.PathLike | None = None, download: bool = False) -> Path:
    """Path of one file of a data set, verified against its manifest.

    Looks in ``data_dir``, else in the folder that ``FLDA_DATA_DIR`` names; then the network is not touched unless
    ``download`` says so. Without either, downloads once with pooch into its cache. A download that broke off is
    continued, a file appears whole and verified or not at all, and proxies are those of the environment
    (``HTTPS_PROXY``). A file whose checksum the manifest does not know is downloaded from its start, and its
    checksum is recorded beside it and holds from then on.

    Parameters
    ----------
    name, file
        Data set and file, as in :func:`manifests`.
    data_dir
        Folder with the file, directly or in the manifest's ``folder``.
    download
        Whether to download into the data folder what it lacks.

    Raises
    ------
    FileNotFoundError
        When the data folder lacks the file.
    ValueError
        For an unknown data set or file, or bytes that do not match the manifest.
    ImportError
        When a download is needed and pooch is not installed.
    OSError
        When the download fails.

    Examples
    --------
    >>> fetch("flyvis", "fib25-fib19_v2.2.json").stat().st_size  # doctest: +SKIP
    618148
    """
    manifest, entry = _entry(name, file)
    path, target = _locate(manifest, file, data_dir)
    if path is None:
        if not download and _data_folder(data_dir):
            raise FileNotFoundError(
                f"{file} of data set {name!r} is not in {_data_folder(data_dir)} (FLDA_DATA_DIR); looked there only. "
                f"Download it into that folder with: flda datasets fetch {name}"
            )
        path = _download(entry, target)
    found = _sha256(path)
    known = _known_sha256(entry, path)
    if known is None:
        logger.info("no checksum is known for %s; it has sha256 %s", path, found)
    elif found != known:
        raise ValueError(_mismatch(path, found, known, entry))
    return path


def verify(name: str, *, data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Compare the files of a data set that are at hand with its manifest; the network is not touched.

    Parameters
    ----------
    name, data_dir
        As in :func:`fetch`.

    Returns
    -------
    DataFrame with a row per file: ``file``, ``status`` (``ok``, ``missing``, ``damaged``, or ``no checksum known``) and
    ``sha256`` of what was found.

    Examples
    --------
    >>> verify("rnamix", data_dir="/nowhere")["status"].unique().tolist()
    ['missing']
    """
    rows = []
    for entry in _manifest(name)["files"]:
        path, _ = _locate(_manifest(name), entry["name"], data_dir)
        if path is None:
            rows.append((entry["name"], "missing", ""))
            continue
        found, known = _sha256(path), _known_sha256(entry, path)
        status = "no checksum known" if known is None else "ok" if found == known else "damaged"
        rows.append((entry["name"], status, found))
    return pd.DataFrame(rows, columns=["file", "status", "sha256"])


def _folder() -> Traversable:
    folder = resources.files("flda") / "_manifests"
    # an editable install runs from the repository
    return folder if folder.is_dir() else Path(__file__).parents[2] / "data_manifests"


def _manifest(name: str) -> dict:
    known = manifests()
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(known)}.")
    return known[name]


def _entry(name: str, file: str) -> tuple[dict, dict]:
    manifest = _manifest(name)
    for entry in manifest["files"]:
        if entry["name"] == file:
            return manifest, entry
    raise ValueError(f"data set {name!r} has no file {file!r}; it has {[f['name'] for f in manifest['files']]}.")


def _data_folder(data_dir: str | os.PathLike | None) -> Path | None:
    folder = data_dir or os.environ.get("FLDA_DATA_DIR")
    return Path(folder).expanduser() if folder else None


def _locate(manifest: dict, file: str, data_dir: str | os.PathLike | None) -> tuple[Path | None, Path]:
    """Where the file is, or None, and where a download puts it."""
    folder = _data_folder(data_dir)
    if folder:
        target = folder / manifest["folder"] / file
        return next((p for p in (target, folder / file) if p.is_file()), None), target
    target = Path(_pooch().os_cache("flda")) / manifest["name"] / file
    return (target if target.is_file() else None), target


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _known_sha256(entry: dict, path: Path) -> str | None:
    """The checksum of the manifest, else the one recorded when the file was downloaded, else None."""
    if entry["sha256"] != UNKNOWN:
        return entry["sha256"]
    return _record(path).read_text("ascii").split()[0] if _record(path).is_file() else None


def _mismatch(path: Path, found: str, known: str, entry: dict) -> str:
    hint = f" {entry['on_mismatch']}" if "on_mismatch" in entry else ""
    return (
        f"{path} does not match its checksum: sha256 {found}, expected {known}.{hint} "
        "Remove the file and fetch it again."
    )


def _pooch():
    try:
        import pooch
    except ImportError:
        raise ImportError("downloading data needs pooch; install it with: pip install 'flda[data]'") from None
    pooch.get_logger().setLevel(logging.WARNING)
    return pooch


def _download(entry: dict, target: Path) -> Path:
    """Download to ``target``; continued and verified where the checksum is known."""
    pooch = _pooch()
    import requests

    url, file = entry["url"], entry["name"]
    known = None if entry["sha256"] == UNKNOWN else entry["sha256"]
    part = target.with_name(f"{file}.part") if known else None
    by_hand = f"check the network, or put {file} into a folder and set FLDA_DATA_DIR to it."
    try:
        logger.info("downloading %s (%s)", url, _megabytes(entry["bytes"]))
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            url,
            known_hash=f"sha256:{known}" if known else None,
            fname=file,
            path=target.parent,
            downloader=Resumable(part),
        )
    except ValueError:  # pooch's way to say that the checksum differs
        hint = f" {entry['on_mismatch']}" if "on_mismatch" in entry else ""
        raise ValueError(f"{url} does not match the checksum in the manifest; nothing was kept.{hint}") from None
    except requests.HTTPError as error:
        answer = "" if error.response is None else f": the server answered {error.response.status_code}"
        raise OSError(f"could not download {url}{answer}; {by_hand}") from None
    except requests.RequestException as error:
        raise OSError(f"could not download {url} ({type(error).__name__}); {by_hand}") from None
    except OSError as error:
        raise OSError(f"could not write {target}: {error.strerror or error}.") from None
    if known is None:
        _record(target).write_text(f"{_sha256(target)}  {file}\n", "ascii")
    return target


def _megabytes(size: int | str) -> str:
    return f"{size / 1e6:.1f} MB" if isinstance(size, int) else "size unknown"

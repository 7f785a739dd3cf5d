"""Files of public data sets: located or downloaded, and verified against their manifests."""

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
    """Return the manifest of every data set that :func:`fetch` knows, by name.

    A manifest is a JSON file that follows ``manifest.schema.json``. It has a description of the data, the citation, the
    licence, the loader, the expected shape and factors, and the URL, size and sha256 of every file. If the checksum of
    a file is not known, the manifest says ``"unknown: recorded on first download"``.

    Returns
    -------
    Dictionary of data set -> manifest.

    Examples
    --------
    >>> manifests()["rnamix"]["accession"]
    'GEO GSE118767'
    """
    names = [f for f in _folder().iterdir() if f.name.endswith(".json") and not f.name.endswith(".schema.json")]
    found = [json.loads(f.read_text("utf-8")) for f in names]
    return {m["name"]: m for m in sorted(found, key=lambda m: m["name"])}


def fetch(name: str, file: str, *, data_dir: str | os.PathLike | None = None, download: bool = False) -> Path:
    """Locate or download one file of a data set and verify it against its manifest.

    The data folder is ``data_dir``, or else the folder in the environment variable ``FLDA_DATA_DIR``. With a data
    folder, nothing is downloaded unless ``download=True``. Without one, the file is downloaded once into the cache of
    pooch. An interrupted download is continued, and the file gets its name only when it is complete and verified.
    Proxies are taken from the environment (``HTTPS_PROXY``). If the manifest does not know the checksum, the file is
    always downloaded from its beginning; its checksum is recorded in a file next to it and used from then on.

    Parameters
    ----------
    name, file
        Data set and file, as in :func:`manifests`.
    data_dir
        Folder with the file, directly or in the manifest's ``folder``.
    download
        Whether to download a file that is missing from the data folder.

    Returns
    -------
    Path of the file.

    Raises
    ------
    FileNotFoundError
        If the file is missing from the data folder.
    ValueError
        If the data set or file is unknown, or the content does not match the manifest.
    ImportError
        If a download is needed and pooch is not installed.
    OSError
        If the download fails.

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
                f"{file} of data set {name!r} is not in the data folder {_data_folder(data_dir)} (FLDA_DATA_DIR). "
                f"Download it into this folder with: flda datasets fetch {name}"
            )
        path = _download(entry, target)
    found = _sha256(path)
    known = _known_sha256(entry, path)
    if known is None:
        logger.info("%s cannot be verified, as its manifest has no checksum; its sha256 is %s", path, found)
    elif found != known:
        raise ValueError(_mismatch(path, found, known, entry))
    return path


def verify(name: str, *, data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Compare the local files of a data set with its manifest; nothing is downloaded.

    Parameters
    ----------
    name, data_dir
        As in :func:`fetch`.

    Returns
    -------
    DataFrame with one row per file: ``file``, ``status`` (``ok``, ``missing``, ``damaged``, or ``no checksum known``)
    and the ``sha256`` of the local file, empty if it is missing.

    Raises
    ------
    ValueError
        If the data set is unknown.

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
    # the manifests of an editable install are in the repository
    return folder if folder.is_dir() else Path(__file__).parents[2] / "data_manifests"


def _manifest(name: str) -> dict:
    known = manifests()
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; use one of {', '.join(known)}.")
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
    """Path of the local file, or None, and the path that a download writes to."""
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
    """Checksum in the manifest, or else the one recorded when the file was downloaded, or else None."""
    if entry["sha256"] != UNKNOWN:
        return entry["sha256"]
    return _record(path).read_text("ascii").split()[0] if _record(path).is_file() else None


def _mismatch(path: Path, found: str, known: str, entry: dict) -> str:
    hint = f" {entry['on_mismatch']}" if "on_mismatch" in entry else ""
    return (
        f"{path} does not match its checksum: its sha256 is {found}, expected {known}.{hint} "
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
    """Download to ``target``; if the checksum is known, an earlier part is continued and the file is verified."""
    pooch = _pooch()
    import requests

    url, file = entry["url"], entry["name"]
    known = None if entry["sha256"] == UNKNOWN else entry["sha256"]
    part = target.with_name(f"{file}.part") if known else None
    by_hand = f"check the network connection, or put {file} into a folder and set FLDA_DATA_DIR to this folder."
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
    except ValueError:  # raised by pooch if the checksum differs
        hint = f" {entry['on_mismatch']}" if "on_mismatch" in entry else ""
        raise ValueError(
            f"the content of {url} does not match the checksum in the manifest and was deleted.{hint}"
        ) from None
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

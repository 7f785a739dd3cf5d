"""Downloads that resume and show progress. A partial file keeps its own name; proxies are set by the environment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tqdm.auto import tqdm

from .._progress import DELAY

CHUNK = 1 << 20
ATTEMPTS = 3  # attempts in a row without a new byte after which a download fails


class Resumable:
    """Downloader for :func:`pooch.retrieve` that continues where an earlier attempt broke off.

    pooch passes a temporary file, verifies its checksum and renames it.

    Parameters
    ----------
    part
        File that keeps the bytes received so far, also after an error. None starts every download from the beginning.
    timeout
        Seconds without an answer after which an attempt counts as failed.
    """

    def __init__(self, part: Path | None, *, timeout: float = 30.0) -> None:
        self.part = part
        self.timeout = timeout

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Download ``url`` to ``output_file``."""
        import requests

        part = self.part or Path(output_file)
        if self.part is None:
            part.write_bytes(b"")
        failures = 0
        while True:
            before = _size(part)
            try:
                self._attempt(url, part)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                failures = 0 if _size(part) > before else failures + 1
                # a transfer that broke off is tried again, but not one that never began, as with an unknown host name
                if failures >= ATTEMPTS or _size(part) == 0:
                    raise
        os.replace(part, output_file)

    def _attempt(self, url: str, part: Path) -> None:
        import requests

        start = _size(part)
        # ask for the bytes of the file uncompressed, so that the size of the partial file is a position in it
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if not response.headers.get("Content-Range", "").endswith(f"/{start}"):
                    part.unlink()  # it is longer than the file on the server, so it belongs to another file
                    self._attempt(url, part)
                return  # the partial file is complete
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                start = 0  # the server ignores ranges and sends the whole file
            length = response.headers.get("Content-Length")
            total = start + int(length) if length and "Content-Encoding" not in response.headers else None
            bar = tqdm(
                desc=Path(url).name, initial=start, total=total, unit="B", unit_scale=True,
                disable=None, delay=DELAY, leave=False,
            )  # fmt: skip
            with bar, part.open("r+b" if start else "wb") as handle:
                handle.seek(start)
                for block in response.iter_content(CHUNK):
                    handle.write(block)
                    bar.update(len(block))
        if total is not None and _size(part) < total:
            raise requests.exceptions.ChunkedEncodingError(f"received {_size(part):,} of {total:,} bytes")


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0

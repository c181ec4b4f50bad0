"""Downloads a file of weights once. The messages name the Kinetics-400 weights, the only ones that vtag downloads.

A broken download is resumed. The file appears under its name only when it is complete and checked.
"""

import contextlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tagger.errors import WeightsError
from tagger.file_content import file_hash
from tagger.models.download_progress import OnBytes, download_progress

TIMEOUT_S = 30.0
"""Timeout in seconds for a connection and for each read from it."""

RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each retry. A retry resumes the download."""

CHUNK_BYTES = 2**20


def download_once(url: str, file: Path, check: Callable[[Path], object]) -> Path:
    """Returns ``file``, downloading it from ``url`` if it is not there yet.

    The bytes are written to ``<file>.part``, which a later call resumes. It is renamed to ``file`` after three checks:
    its size, the hash in the URL's file name if there is one (``name-<hex>.pth``, as PyTorch names them), and
    ``check``, which raises WeightsError for wrong content. Raises WeightsError.
    """
    if file.exists():
        return file
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_name(f"{file.name}.lock")):
            if file.exists():  # Another process downloaded it while this one waited for the lock.
                return file
            _download(url, part)
            _verify(url, part, check)
            with part.open("r+b") as written:
                os.fsync(written.fileno())
            part.replace(file)
            _validator_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(
            f"cannot keep the Kinetics-400 weights in {file.parent} ({error.strerror or error}); "
            "name another folder with VTAG_CACHE, or the file with --weights FILE"
        ) from error
    return file


class _DownloadError(Exception):
    """A failed try. ``answered``: a server has answered. ``is_final``: a retry would fail in the same way."""

    def __init__(self, reason: str, *, answered: bool = True, is_final: bool = False):
        super().__init__(reason)
        self.answered = answered
        self.is_final = is_final


def _download(url: str, part: Path) -> None:
    """Downloads the whole file to ``part``, with retries."""
    waits = iter(RETRY_WAITS_S)
    answered = False
    with download_progress.get()() as report:
        while True:
            try:
                return _fetch(url, part, report)
            except _DownloadError as error:
                # Retries only if a server has answered before, so that a user who is offline does not wait.
                answered |= error.answered
                wait = next(waits, None)
                if error.is_final or wait is None or not answered:
                    raise WeightsError(
                        f"cannot download the Kinetics-400 weights from {url} ({error}); "
                        "download them where there is a network and name the file with --weights FILE"
                    ) from error
                time.sleep(wait)


def _fetch(url: str, part: Path, report: OnBytes) -> None:
    """Downloads over one connection. Resumes at the end of ``part`` if the file on the server is unchanged."""
    have = part.stat().st_size if part.exists() else 0
    validator = _validator_file(part)
    headers = {"User-Agent": "vtag"}
    if have and validator.exists():
        # If-Range: the server sends the rest if the file is unchanged, else the whole new file.
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text("utf-8")}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # No bytes follow the part, so the next try restarts.
            part.unlink(missing_ok=True)
        is_final = 400 <= error.code < 500 and error.code not in (408, 416, 429)
        raise _DownloadError(f"HTTP {error.code} {error.reason}", is_final=is_final) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not a URL
        raise _DownloadError(_reason(error), answered=False) from error
    with response:
        start = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if not start:
            # Removed first, so that a validator is never stored beside bytes of another version.
            part.unlink(missing_ok=True)
            _remember_validator(validator, response.headers)
        with part.open("ab" if start else "wb") as out:
            done = start
            report(done, total)
            while True:
                try:
                    chunk = response.read(CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _DownloadError(f"the connection broke after {done} bytes: {_reason(error)}") from error
                if not chunk:
                    break
                out.write(chunk)
                done += len(chunk)
                report(done, total)
    if total is not None and done != total:
        raise _DownloadError(f"the connection closed after {done} of {total} bytes")


def _verify(url: str, part: Path, check: Callable[[Path], object]) -> None:
    """Checks the hash and content of ``part``. Removes it and raises WeightsError if they are wrong."""
    expected = re.search(r"-([0-9a-f]{8,64})\.[^./]+$", url)
    try:
        if expected and not file_hash(part).startswith(expected[1]):
            raise WeightsError(f"its SHA-256 does not begin with {expected[1]}")
        check(part)
    except WeightsError as error:
        part.unlink()
        _validator_file(part).unlink(missing_ok=True)
        raise WeightsError(
            f"{url} is not the Kinetics-400 weights ({error}); name a good file with --weights FILE"
        ) from error


def _validator_file(part: Path) -> Path:
    """Returns the path of the file with the HTTP validator (ETag or date), which identifies the version of ``part``."""
    return part.with_name(f"{part.name}.version")


def _remember_validator(file: Path, headers: http.client.HTTPMessage) -> None:
    etag = headers.get("ETag")
    # A weak ETag does not guarantee the same bytes, and is not allowed in If-Range (RFC 9110, 13.1.5).
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if validator:
        file.write_text(validator, "utf-8")
    else:
        file.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds an exclusive file lock. The system releases it if this process dies."""
    with file.open("wb") as lock:
        # Windows has no fcntl, and some network file systems have no locks. There two downloads at the same time may
        # corrupt the file. The checks detect this.
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield

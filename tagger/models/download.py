"""Downloads a file of weights once.

A broken download is resumed, the file is checked, and it appears whole or not at all.
"""

import contextlib
import hashlib
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
from tagger.models.download_progress import OnBytes, download_progress

TIMEOUT_S = 30.0
"""For a connection, and for each read from it."""

RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses before another try; each goes on where the last one broke."""

CHUNK_BYTES = 2**20


def download_once(url: str, file: Path, check: Callable[[Path], object]) -> Path:
    """Returns ``file``, downloading it from ``url`` if it is not there yet.

    The bytes go to ``<file>.part``, which a later call resumes. ``file`` appears whole or not at all: after its size
    was compared, the hash in the URL's file name if it has one (``name-<hex>.pth``, as PyTorch writes them), and after
    ``check``, which raises WeightsError for a wrong content. Raises WeightsError.
    """
    if file.exists():
        return file
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_name(f"{file.name}.lock")):
            if file.exists():  # another process downloaded it while this one waited
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
    """A try that failed. ``answered``: by a server; ``is_final``: another try would fail in the same way."""

    def __init__(self, reason: str, *, answered: bool = True, is_final: bool = False):
        super().__init__(reason)
        self.answered = answered
        self.is_final = is_final


def _download(url: str, part: Path) -> None:
    """Fills ``part``, over as many connections as it takes."""
    waits = iter(RETRY_WAITS_S)
    answered = False
    with download_progress.get()() as report:
        while True:
            try:
                return _fetch(url, part, report)
            except _DownloadError as error:
                # Only a server that answered before is tried again, so that a user who is offline does not wait.
                answered |= error.answered
                wait = next(waits, None)
                if error.is_final or wait is None or not answered:
                    raise WeightsError(
                        f"cannot download the Kinetics-400 weights from {url} ({error}); "
                        "download them where there is a network and name the file with --weights FILE"
                    ) from error
                time.sleep(wait)


def _fetch(url: str, part: Path, report: OnBytes) -> None:
    """One connection: goes on where ``part`` ends if the server still has the same file, else starts again."""
    have = part.stat().st_size if part.exists() else 0
    validator = _validator_file(part)
    headers = {"User-Agent": "vtag"}
    if have and validator.exists():
        # If-Range: the rest if the file is unchanged, otherwise the whole of the new one.
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text("utf-8")}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing follows what is there; the next try starts again
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
            part.unlink(missing_ok=True)  # first, so that a validator never stands beside bytes of another version
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
    """Removes ``part`` and raises WeightsError unless it is what was asked for."""
    expected = re.search(r"-([0-9a-f]{8,64})\.[^./]+$", url)
    try:
        if expected and not _sha256(part).startswith(expected[1]):
            raise WeightsError(f"its SHA-256 does not begin with {expected[1]}")
        check(part)
    except WeightsError as error:
        part.unlink()
        _validator_file(part).unlink(missing_ok=True)
        raise WeightsError(
            f"what {url} sent is not the Kinetics-400 weights ({error}); name a good file with --weights FILE"
        ) from error


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _validator_file(part: Path) -> Path:
    """Holds what says which version of the file on the server ``part`` is the beginning of."""
    return part.with_name(f"{part.name}.version")


def _remember_validator(file: Path, headers: http.client.HTTPMessage) -> None:
    etag = headers.get("ETag")
    # A weak ETag does not promise the same bytes, and If-Range may not carry one (RFC 9110, 13.1.5).
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
    """Holds an exclusive lock, which the system releases if this process dies."""
    with file.open("wb") as lock:
        # Windows has no fcntl; there two first downloads at the same moment can spoil each other's, which the checks
        # notice. Some network file systems cannot lock, with the same result.
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""The file systems behind addresses, and the meaning of their errors.

``s3://`` is configured by the environment variables of the AWS command line, ``gs://`` by Google's application default
credentials, and other schemes as pyarrow.fs and fsspec document.
"""

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from jobs.errors import reason
from jobs.storage.address import split
from jobs.storage.pyarrow_versions import DELAYED_OPEN, HAS_S3_OPTIONS
from tagger.errors import VtagError, one_line

MAX_ATTEMPTS = 8
"""Number of attempts of a request to S3 before it fails. The back-off between them adds up to 6 s."""

CONNECT_TIMEOUT_S = 5.0
"""Seconds to wait for a connection to S3."""

GOOGLE_RETRY_TIME_LIMIT = timedelta(seconds=30)
"""Time limit for the retries of a request to Google Cloud Storage."""

_ARROW_SCHEMES = frozenset({"abfs", "abfss", "hdfs", "viewfs"})
_AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?[^:]*: (.*)", re.DOTALL)
_REQUEST = re.compile(r" \(Request ID: .*?\)")

_ERROR_PATTERNS: tuple[tuple[str, int, str], ...] = (
    (r"NO_SUCH_BUCKET|bucket .* not found", errno.ENOENT, "There is no such bucket"),
    (r"NO_SUCH_KEY|RESOURCE_NOT_FOUND|Status\(NOT_FOUND", errno.ENOENT, os.strerror(errno.ENOENT)),
    (r"OAuth2 access token|UNAUTHENTICATED", errno.EACCES, "No credentials were found"),
    (
        r"ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|EXPIRED"
        r"|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|PERMISSION_DENIED|AuthenticationFailed|AuthorizationFailure",
        errno.EACCES,
        "Access is denied",
    ),
    (r"Empty path component", errno.EINVAL, "A name with an empty part, as in a//b, cannot be used"),
    (r"timed? ?out|REQUEST_TIMEOUT|DEADLINE_EXCEEDED", errno.ETIMEDOUT, "It did not answer in time"),
    (r"NETWORK_CONNECTION|curl error|connection refused|resolve host", errno.EHOSTUNREACH, "It cannot be reached"),
    (r"SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|HTTP status 50\d|UNAVAILABLE", errno.EIO, "The service fails"),
)
"""A pattern in the text of an error, its error number and its reason. The first match counts."""


class StorageError(VtagError):
    """An address that cannot be used: its scheme is unknown, a package is missing, or settings are wrong."""


def file_system(address: str) -> tuple[fs.FileSystem, str | None]:
    """Returns the file system of an address, and the path of the address's bucket or host in it.

    The path is None for a file system of fsspec, which converts addresses to paths itself. Raises StorageError.
    """
    scheme, root, _ = split(address)
    # Clients are cached: workers need one for every video, and making one is slow. The settings are part of the key,
    # because a client keeps those that it was made with.
    settings = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith(("AWS_", "GOOGLE_"))))
    if scheme == "s3":
        if not root:
            raise StorageError(f"{address} names no bucket; S3 addresses are s3://BUCKET/KEY")
        return s3_file_system(root, settings), root
    if scheme in ("gs", "gcs"):
        if not root:
            raise StorageError(f"{address} names no bucket; Google's addresses are gs://BUCKET/OBJECT")
        return _google(settings), root
    if scheme in _ARROW_SCHEMES:
        return _arrow(scheme, root)
    return _fsspec(address), None


@functools.lru_cache(maxsize=64)
def s3_file_system(bucket: str, settings: tuple[tuple[str, str], ...]) -> fs.S3FileSystem:
    """Returns the file system of a bucket. ``settings`` are the environment variables that configure it."""
    variables = dict(settings)
    # pyarrow leaves credentials, profile and region to the AWS SDK. The SDK does not read the variables below.
    name = next((key for key in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if variables.get(key)), None)
    options: dict[str, str] = {}
    if name:
        scheme, _, host = variables[name].rstrip("/").partition("://")
        if scheme not in ("http", "https") or not host:
            raise StorageError(f"{name} is {variables[name]}, which does not begin with http:// or https://")
        options = {"scheme": scheme, "endpoint_override": host}
    else:
        # The region of the bucket counts, not the region that this machine is configured for.
        with contextlib.suppress(OSError):
            options = {"region": fs.resolve_s3_region(bucket)}
    if variables.get("AWS_CA_BUNDLE") and options.get("scheme") != "http":
        if not HAS_S3_OPTIONS:
            raise StorageError(f"AWS_CA_BUNDLE needs pyarrow 21 or newer, and this is {pa.__version__}")
        options["tls_ca_file_path"] = variables["AWS_CA_BUNDLE"]
    return fs.S3FileSystem(
        connect_timeout=CONNECT_TIMEOUT_S,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
        # Background writes would pile up in memory when the network is slow.
        background_writes=False,
        **DELAYED_OPEN,
        **options,
    )


@functools.lru_cache(maxsize=4)
def _google(settings: tuple[tuple[str, str], ...]) -> fs.FileSystem:
    return fs.GcsFileSystem(retry_time_limit=GOOGLE_RETRY_TIME_LIMIT)


@functools.lru_cache(maxsize=64)
def _arrow(scheme: str, root: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, start = fs.FileSystem.from_uri(f"{scheme}://{root}/")
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{scheme}://{root} cannot be used: {one_line(str(error))[:200]}") from error
    return filesystem, start.rstrip("/")


def _fsspec(address: str) -> fs.FileSystem:
    import fsspec

    scheme = split(address)[0]
    try:
        filesystem, _ = fsspec.core.url_to_fs(address)
    except ValueError:
        raise StorageError(
            f"{address}: the scheme {scheme}:// is unknown; use s3://, gs:// or another scheme of fsspec"
        ) from None
    except ImportError as error:
        raise StorageError(f"{address}: {scheme}:// needs another package ({one_line(str(error))})") from error
    except Exception as error:
        raise StorageError(f"{address} cannot be used: {reason(translate_error(error, address))}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem))


@contextlib.contextmanager
def translate_errors(filesystem: fs.FileSystem, address: str) -> Iterator[None]:
    """Translates errors of a file system to OSError with a number, a reason and the address, as for local files."""
    try:
        yield
    except Exception as error:
        if isinstance(filesystem, fs.LocalFileSystem):
            raise
        raise translate_error(error, address) from error


def translate_error(error: Exception, address: str) -> OSError:
    """Returns the FileNotFoundError, PermissionError or other OSError that ``error`` means, in one line."""
    if isinstance(error, OSError):
        # File systems in Python raise FileNotFoundError without a number.
        kinds = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}
        number = error.errno or kinds.get(type(error), 0)
        if number:
            return OSError(number, os.strerror(number), address)
    text = one_line(str(error)) or type(error).__name__
    number, words = next(
        ((number, words) for pattern, number, words in _ERROR_PATTERNS if re.search(pattern, text, re.IGNORECASE)),
        (errno.EIO, ""),
    )
    detail = _AWS_ERROR.search(text)
    said = _REQUEST.sub("", detail[3] if detail else text).strip(" .")[:200]
    if number == errno.EACCES:
        words = f"{words}{_about_credentials(split(address)[0])}"
    elif number == errno.EHOSTUNREACH and detail:
        # The AWS SDK says the same before and after "Details: ".
        said = said.rpartition("Details: ")[2]
    if number not in (errno.ENOENT, errno.EINVAL) and said:
        words = f"{words} ({said})" if words else said
    return OSError(number, words, address)


def _about_credentials(scheme: str) -> str:
    if scheme == "s3":
        files = (
            os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
        )
        if not any(
            os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
        ) and not any(_exists(file) for file in files):
            return ", and there are no credentials in AWS_ACCESS_KEY_ID, AWS_PROFILE or ~/.aws"
        return "; credentials are those of AWS_ACCESS_KEY_ID, AWS_PROFILE or ~/.aws"
    if scheme in ("gs", "gcs"):
        return "; set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud auth application-default login"
    return ""


def _exists(file: str) -> bool:
    """Returns whether a file exists, whose path may begin with ``~``. A user without a home folder has none there."""
    try:
        return Path(file).expanduser().exists()
    except (OSError, RuntimeError):
        return False

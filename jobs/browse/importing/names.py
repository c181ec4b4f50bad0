"""The names that other tools have for videos: addresses of Label Studio and ELAN, uploaded files, URLs."""

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

# Label Studio puts a random number before the name of a file that was uploaded.
_UPLOADED = re.compile(r"[0-9a-f]{8}-")

# The beginning of addresses, in which names are percent-encoded. Label Studio's addresses of its own files have no
# server.
_ENCODED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/data/(local-files|upload)/")


def names_of(text: str) -> list[str]:
    """Returns the names of files that a path or an address may stand for, without those that are empty."""
    written = PurePosixPath(text).name
    name = PurePosixPath(path_of(text)).name
    uploaded = _UPLOADED.sub("", name, count=1) if _UPLOADED.match(name) else ""
    return [each for each in dict.fromkeys((written, name, uploaded, unquote(written))) if each]


def path_of(text: str) -> str:
    """Returns the path in an address, such as ``/data/local-files/?d=PATH``, ``file:///PATH`` or that of a server.

    A path is returned as it is: ``#``, ``?`` and ``%`` in it are parts of names.
    """
    if not _ENCODED.match(text):
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)

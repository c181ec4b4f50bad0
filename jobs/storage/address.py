"""Addresses of files: ``scheme://`` and a name, as users type them and as ``aws s3 ls`` shows them.

Addresses are taken verbatim: nothing in them is percent-encoded or decoded, so ``s3://bucket/50% off?.mp4`` is the
object ``50% off?.mp4``.
"""

import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")


def is_address(text: object) -> bool:
    """Checks whether ``text`` is an address such as ``s3://bucket/videos``, not a path."""
    return _SCHEME.match(str(text)) is not None


def split(address: str) -> tuple[str, str, str]:
    """Splits an address into the scheme (in lower case), the bucket or host, and the path without its leading slash."""
    scheme, _, rest = address.partition("://")
    root, _, path = rest.partition("/")
    return scheme.lower(), root, path

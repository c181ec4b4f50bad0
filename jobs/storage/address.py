"""What an address is: ``scheme://`` and a name, as users type it and as ``aws s3 ls`` shows it.

Addresses are taken verbatim: nothing in them is percent-encoded or decoded, so ``s3://bucket/50% off?.mp4`` is the
object ``50% off?.mp4``.
"""

import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")


def is_address(text: object) -> bool:
    """Whether ``text`` is an address such as ``s3://bucket/videos``, not a path."""
    return _SCHEME.match(str(text)) is not None


def split(address: str) -> tuple[str, str, str]:
    """The scheme (in lower case), the bucket or host, and the path in it, without the slash between them."""
    scheme, _, rest = address.partition("://")
    root, _, path = rest.partition("/")
    return scheme.lower(), root, path

"""The hash of a file."""

import hashlib
from pathlib import Path


def file_hash(path: str | Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The content of files: its hash, and its text in UTF-8 or UTF-16, as editors and spreadsheets write it."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from pickle import UnpicklingError

UTF_8_MARK, UTF_16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
"""Byte-order marks, which programs on Windows put before a text."""

UTF_16 = ("utf-16", "utf-16-le", "utf-16-be")
"""With a byte-order mark, and without one in either order."""


def check_regular(path: str | Path) -> None:
    """Raises OSError unless there is a regular file: a pipe would wait for its writer, and a device may have no end."""
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket", str(path))


def why_unreadable(error: Exception) -> str:
    """Returns the reason of an error of reading a checkpoint with PyTorch, which may be any, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnpicklingError) or not str(error).strip():
        # PyTorch explains at length how to run the code in a checkpoint.
        return "it is damaged, or holds more than tensors"
    return " ".join(str(error).split())


def file_hash(path: str | Path) -> str:
    """Returns the SHA-256 of a regular file in hexadecimal. Raises OSError."""
    check_regular(path)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decode_text(content: bytes, likely: str) -> str:
    """Returns the text in ``content``, which is in UTF-8 or UTF-16, without its byte-order mark.

    ``likely`` are characters that such a text has. UTF-16 without a mark may be a text in both byte orders; the one
    with more of these characters is taken. Raises UnicodeDecodeError, also for a text with NUL characters.
    """
    if not looks_like_utf_16(content):
        return content.removeprefix(UTF_8_MARK).decode("utf-8")
    texts = [text for text in (_decoded(content, encoding) for encoding in UTF_16) if text is not None]
    if not texts:
        raise UnicodeDecodeError("utf-16", content, 0, len(content), "it is cut off, or has NUL characters")
    return max(texts, key=lambda text: sum(map(text.count, likely)))


def looks_like_utf_16(content: bytes) -> bool:
    """Checks for the mark of UTF-16, or for NUL bytes, which are in the ASCII characters of UTF-16 only."""
    return b"\0" in content or content.startswith(UTF_16_MARKS)


def _decoded(content: bytes, encoding: str) -> str | None:
    """Returns a text in an encoding; None when it is none."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text

"""Reads lists of videos: one path or address per line, in UTF-8 or UTF-16, or separated by NUL bytes."""

import os
import re

from tagger.errors import InputError

UTF_8_MARK, UTF_16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
"""Byte-order marks, which editors on Windows put before a text."""

UTF_16 = ("utf-16", "utf-16-le", "utf-16-be")
"""With a byte-order mark, and without one in either order."""

QUOTES = ("'", '"')


def names_in_list(content: bytes, name: str, *, null: bool = False) -> list[str]:
    """Returns the paths and addresses in the content of the list ``name``.

    ``null`` says that they are separated by NUL bytes, as by ``find -print0``; otherwise this is detected. Such names
    are taken as they are. In a list with one name per line, spaces around a name, blank lines and lines that begin with
    ``#`` are left out. Raises InputError for a list without names, and for a line in quotes.
    """
    content = content.removeprefix(UTF_8_MARK)
    if null or _is_separated_by_nulls(content):
        names = [os.fsdecode(part) for part in content.split(b"\0") if part]
    else:
        lines = [line.strip() for line in _lines(content, name)]
        names = [line for line in lines if line and not line.startswith("#")]
        for line in names:
            if len(line) > 2 and line[0] in QUOTES and line[0] == line[-1] and not os.path.lexists(line):
                raise InputError(f"the list {name} has a line in quotes: {line}; write the path without them")
    if not names:
        raise InputError(f"the list {name} names no videos; it takes one path or address on a line")
    return names


def _is_separated_by_nulls(content: bytes) -> bool:
    """Checks whether NUL bytes separate names. In UTF-16 they are parts of characters and separate single bytes."""
    if b"\0" not in content or content.startswith(UTF_16_MARKS):
        return False
    return all(len(part) > 1 for part in content.removesuffix(b"\0").split(b"\0"))


def _lines(content: bytes, name: str) -> list[str]:
    if b"\0" not in content and not content.startswith(UTF_16_MARKS):
        # File names need not be text; fsdecode keeps every byte.
        return [os.fsdecode(line) for line in content.splitlines()]
    texts = [text for text in (_decoded(content, encoding) for encoding in UTF_16) if text is not None]
    if not texts:
        raise InputError(
            f"the list {name} is neither UTF-8 nor UTF-16; save it as UTF-8, or give -0 for NUL-separated names"
        )
    # Without a mark both byte orders may give a text. Paths have slashes and dots, which the wrong order has not.
    return re.split(r"\r\n|\r|\n", max(texts, key=lambda text: sum(map(text.count, "/.\n"))))


def _decoded(content: bytes, encoding: str) -> str | None:
    """Returns a text in an encoding; None when it is none."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text

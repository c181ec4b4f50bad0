"""Reads lists of videos: one path or address per line, in UTF-8 or UTF-16, or separated by NUL bytes."""

import os
import re

from tagger.errors import InputError
from tagger.file_content import UTF_8_MARK, UTF_16_MARKS, decode_text, looks_like_utf_16

QUOTES = ("'", '"')


def names_in_list(content: bytes, name: str, *, null: bool = False) -> list[str]:
    """Returns the paths and addresses in the content of the list ``name``.

    ``null`` says that they are separated by NUL bytes, as by ``find -print0``; otherwise this is detected. Such names
    are taken as they are. In a list with one name per line, spaces around a name, blank lines and lines that begin with
    ``#`` are left out. Raises InputError for a list without names, and for a line in quotes.
    """
    if not null:
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
    if not looks_like_utf_16(content):
        # File names need not be text; fsdecode keeps every byte.
        return [os.fsdecode(line) for line in content.splitlines()]
    try:
        # Paths have slashes and dots, which UTF-16 in the wrong byte order has not.
        text = decode_text(content, likely="/.\n")
    except UnicodeDecodeError:
        raise InputError(
            f"the list {name} is neither UTF-8 nor UTF-16; save it as UTF-8, or give -0 for NUL-separated names"
        ) from None
    return re.split(r"\r\n|\r|\n", text)

"""Reads lists of videos: one path or address per line, in UTF-8 or UTF-16, or separated by NUL bytes."""

import os
import re

from tagger.errors import InputError

UTF_8_MARK, UTF_16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
"""Byte-order marks, which editors on Windows put before a text."""

QUOTES = ("'", '"')


def names_in_list(content: bytes, name: str, *, null: bool = False) -> list[str]:
    """Returns the paths and addresses in the content of the list ``name``.

    ``null`` says that they are separated by NUL bytes, as by ``find -print0``; otherwise this is detected. Such names
    are taken as they are. In a list with one name per line, spaces around a name, blank lines and lines that begin with
    ``#`` are left out. Raises InputError for a list without names, and for a line in quotes.
    """
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
    return b"\0" in content and _utf_16(content) is None


def _utf_16(content: bytes) -> str | None:
    """Returns the byte order of a text in UTF-16; None for other content.

    Without a byte-order mark it is recognised by its NUL bytes.
    """
    if content.startswith(UTF_16_MARKS):
        return "utf-16"
    if len(content) % 2 == 0 and content:
        for order, pair in (("utf-16-le", slice(1, None, 2)), ("utf-16-be", slice(0, None, 2))):
            # Half of the bytes of a mostly Latin text are NUL, all on one side.
            if content[pair].count(0) > len(content) / 4:
                return order
    return None


def _lines(content: bytes, name: str) -> list[str]:
    encoding = _utf_16(content)
    if encoding is None:
        # File names need not be text; fsdecode keeps every byte.
        return [os.fsdecode(line) for line in content.removeprefix(UTF_8_MARK).splitlines()]
    try:
        text = content.decode(encoding)
        if "\0" not in text:
            return re.split(r"\r\n|\r|\n", text)
    except UnicodeDecodeError:
        pass
    raise InputError(f"the list {name} is damaged: it is not valid UTF-16; save it as UTF-8")

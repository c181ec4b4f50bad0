"""Finds the label that a person means, among those of a result."""

import difflib
from collections.abc import Sequence

from tagger.errors import InputError, one_line

SUGGESTIONS = 3
"""Labels that a message suggests."""

LISTED = 12
"""Labels that a message lists when none of them is similar."""


def find_label(wanted: str, labels: Sequence[str], place: str) -> str:
    """Returns the label in ``labels`` that ``wanted`` names: in any case, or by its beginning if only one begins so.

    Spaces, hyphens and underscores do not count: ``high jump`` names ``HighJump``. Raises InputError, which suggests
    labels. ``place`` is the result, for the message.
    """
    if wanted in labels:
        return wanted
    plain = _plain(wanted)
    same = [label for label in labels if _plain(label) == plain]
    if len(same) == 1:
        return same[0]
    begin = [label for label in labels if _plain(label).startswith(plain)] if plain else []
    if len(begin) == 1:
        return begin[0]
    shown = one_line(wanted)
    if begin:
        raise InputError(f"{len(begin)} labels of {place} begin with {shown!r}: {_listed(begin)}; give more of one")
    similar = _similar(plain, labels)
    if similar:
        raise InputError(f"{place} has no label {shown!r}; did you mean {' or '.join(similar)}?")
    raise InputError(f"{place} has no label {shown!r}; its {len(labels)} labels are {_listed(labels)}")


def _plain(label: str) -> str:
    return "".join(char for char in label.casefold() if char not in " -_")


def _similar(plain: str, labels: Sequence[str]) -> list[str]:
    """Returns the labels most similar to ``plain``: by their letters, else those that contain it."""
    named = {_plain(label): label for label in labels}
    close = difflib.get_close_matches(plain, named, n=SUGGESTIONS)
    containing = [name for name in named if plain and plain in name and name not in close]
    return [named[name] for name in (*close, *containing)][:SUGGESTIONS]


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:LISTED]) + (", …" if len(labels) > LISTED else "")

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
    same_as = plain(wanted)
    same = [label for label in labels if plain(label) == same_as]
    if len(same) == 1:
        return same[0]
    begin = [label for label in labels if plain(label).startswith(same_as)] if same_as else []
    if len(begin) == 1:
        return begin[0]
    shown = one_line(wanted)
    if begin:
        raise InputError(f"{len(begin)} labels of {place} begin with {shown!r}: {_listed(begin)}; give more of one")
    similar = _similar(same_as, labels)
    if similar:
        raise InputError(f"{place} has no label {shown!r}; did you mean {' or '.join(similar)}?")
    raise InputError(f"{place} has no label {shown!r}; its {len(labels)} labels are {_listed(labels)}")


def plain(label: str) -> str:
    """Returns a label in small letters and without spaces, hyphens and underscores, to be compared."""
    return "".join(char for char in label.casefold() if char not in " -_")


def _similar(wanted: str, labels: Sequence[str]) -> list[str]:
    """Returns the labels most similar to ``wanted``, which is plain: by their letters, else those that contain it."""
    named = {plain(label): label for label in labels}
    close = difflib.get_close_matches(wanted, named, n=SUGGESTIONS)
    containing = [name for name in named if wanted and wanted in name and name not in close]
    return [named[name] for name in (*close, *containing)][:SUGGESTIONS]


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:LISTED]) + (", …" if len(labels) > LISTED else "")

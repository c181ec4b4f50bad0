"""Trees with folders such as ``train``, ``val`` and ``test``, which are the parts of a split of the classes."""

import re
from collections.abc import Collection

from tagger.errors import DataSetError
from training.data.data_set import PARTS, Part

_NAMES: dict[Part, str] = {
    "train": "train|training",
    "val": "val|valid|validation|dev",
    "test": "test|testing|eval|evaluation",
}

Inside = tuple[str, ...]
"""The path of a video below the root of the data set: its folders, and its name."""


def part_named(name: str) -> Part | None:
    """Returns the part of a split that ``name`` means, such as ``val`` for ``Valid`` and ``valid_set``, or None."""
    for part, names in _NAMES.items():
        if re.fullmatch(f"({names})([ _-]?(set|data))?", name, re.IGNORECASE):
            return part
    return None


def part_level(root: str, insides: Collection[Inside]) -> int | None:
    """Returns the level of the folders that are parts of a split: 0 in ``train/CLASS``, 1 in ``CLASS/train``.

    ``insides`` are the places of all videos. None when the folders are classes: a class may be called ``test``. Raises
    DataSetError when some folders in ``root`` are the parts of a split, and others are not.
    """
    top = sorted({inside[0] for inside in insides})
    parts, others = [name for name in top if part_named(name)], [name for name in top if not part_named(name)]
    if not others:
        return 0
    if {"train"} < set(map(part_named, parts)) and _have_same_classes(parts, insides):
        raise DataSetError(
            f"{root} has the folders {', '.join(parts)} of a split, and beside them {', '.join(others[:3])}"
            f"{', …' if len(others) > 3 else ''}; move what is no part of the split elsewhere, or rename {parts[0]} if "
            "it is a class"
        )
    inner = {part_named(inside[1]) if len(inside) > 2 else None for inside in insides}
    return 1 if {"train"} < inner and None not in inner else None


def in_order(folders: Collection[str]) -> tuple[str, ...]:
    """Returns the names of part folders in the order of the parts."""
    return tuple(name for part in PARTS for name in sorted(folders) if part_named(name) == part)


def _have_same_classes(folders: Collection[str], insides: Collection[Inside]) -> bool:
    """Checks whether ``folders`` have sub-folders of a common name, and hold no videos themselves."""
    inner: dict[str, set[str]] = {folder: set() for folder in folders}
    for inside in insides:
        if inside[0] in inner:
            if len(inside) < 3:
                return False
            inner[inside[0]].add(inside[1])
    return bool(set.intersection(*inner.values()))

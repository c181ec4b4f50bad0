"""Finding files with the same content in different groups: a clip that is in two groups is in both parts of a split."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path

from training.data.data_set import DataSet, Key


def find_identical(data: DataSet) -> DataSet:
    """``data`` with its ``identical`` files: those with the same content that stand in different groups.

    Only files of the same size are read. A file that cannot be read is like no other; an empty one is no video.
    """
    keys: dict[Path, set[Key]] = defaultdict(set)
    for clip in data.clips:
        keys[clip.path].add(clip.key)
    same_size = _alike(keys, lambda path: path.stat().st_size or None)
    same = [paths for sized in same_size for paths in _alike(sized, _content)]
    return replace(data, identical=tuple(paths for paths in same if len(set.union(*(keys[p] for p in paths))) > 1))


def _alike(paths: Iterable[Path], trait: Callable[[Path], Hashable | None]) -> list[tuple[Path, ...]]:
    """The paths that share a trait with others, in order. Those without it, or that cannot be read, share none."""
    alike: dict[Hashable, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            found = trait(path)
        except OSError:
            continue
        if found is not None:
            alike[found].append(path)
    return [tuple(paths) for paths in alike.values() if len(paths) > 1]


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

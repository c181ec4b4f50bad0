"""Finds copies of files in different groups. Without this, copies of one clip could be in training and in test."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path

from tagger.file_content import file_hash
from training.data.data_set import DataSet, GroupKey


def find_identical(data: DataSet) -> DataSet:
    """Returns ``data`` with ``identical`` set: the copies in different groups.

    Only files of the same size are read. Unreadable files and empty files count as different from all others.
    """
    keys: dict[Path, set[GroupKey]] = defaultdict(set)
    for clip in data.clips:
        keys[clip.path].add(clip.key)
    same_size = _group_by(keys, lambda path: path.stat().st_size or None)
    same = [paths for sized in same_size for paths in _group_by(sized, file_hash)]
    return replace(data, identical=tuple(paths for paths in same if len(set.union(*(keys[p] for p in paths))) > 1))


def _group_by(paths: Iterable[Path], key: Callable[[Path], Hashable | None]) -> list[tuple[Path, ...]]:
    """Returns the sets of two or more paths with the same key, in order.

    Leaves out paths whose key is None or that cannot be read.
    """
    alike: dict[Hashable, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            found = key(path)
        except OSError:
            continue
        if found is not None:
            alike[found].append(path)
    return [tuple(paths) for paths in alike.values() if len(paths) > 1]

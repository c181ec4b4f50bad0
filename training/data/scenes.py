"""Which groups have to stay on one side of a split because they show the same."""

from collections.abc import Collection, Hashable, Iterable, Iterator

from training.data.data_set import DataSet, Key

Scene = tuple[Key, ...]
"""Groups that belong together, sorted."""


def find_scenes(data: DataSet, *, apart: Collection[Key] = ()) -> dict[Key, Scene]:
    """The scene of each group. Groups that are ``apart`` are scenes of their own: it was said where they belong.

    Groups of different classes are different, as in UCF-101 where each class counts its own, unless a manifest names
    them alike or clips of both are in one file. Groups that hold files of the same content belong together, too.
    """
    return _together({clip.key for clip in data.clips}, _links(data), apart)


def find_folds(data: DataSet) -> list[tuple[str, ...]]:
    """Groups to be left out together, by name: those of the same name in all classes, and those that show the same."""
    scenes = find_scenes(data)
    named: dict[Hashable, list[Key]] = {}
    for key in scenes:
        named.setdefault(key[1], []).append(key)
    together = _together(scenes.keys(), [*named.values(), *scenes.values()], ())
    return sorted({tuple(sorted({group for _, group in scene})) for scene in together.values()})


def _links(data: DataSet) -> Iterator[Collection[Key]]:
    """Groups that belong together, a few at a time."""
    alike: dict[Hashable, set[Key]] = {}
    for clip in data.clips:
        alike.setdefault(clip.path, set()).add(clip.key)
        if clip.grouped_by == "manifest":
            alike.setdefault(clip.group, set()).add(clip.key)
    yield from alike.values()
    for paths in data.identical:
        yield set().union(*(alike.get(path, ()) for path in paths))


def _together(keys: Collection[Key], links: Iterable[Collection[Key]], apart: Collection[Key]) -> dict[Key, Scene]:
    """The connected components of ``keys`` under ``links``."""
    members: dict[Key, set[Key]] = {key: {key} for key in keys}
    for link in links:
        free = [key for key in link if key not in apart]
        whole = set().union(*(members[key] for key in free))
        members.update(dict.fromkeys(whole, whole))
    scenes: dict[int, Scene] = {id(whole): tuple(sorted(whole)) for whole in members.values()}
    return {key: scenes[id(whole)] for key, whole in members.items()}

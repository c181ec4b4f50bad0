"""Finds the groups that must be in the same part of a split because they show the same scene."""

from collections.abc import Collection, Hashable, Iterable, Iterator

from training.data.data_set import DataSet, GroupKey

Scene = tuple[GroupKey, ...]
"""Groups that belong together, sorted."""


def find_scenes(data: DataSet, *, assigned: Collection[GroupKey] = ()) -> dict[GroupKey, Scene]:
    """Returns the scene of each group.

    Groups of different classes are different, as in UCF-101, where each class numbers its own groups. Groups belong
    together when a manifest gives them the same name, when they have clips of one file, and when they have copies of
    one file. A group in ``assigned`` is a scene of its own, because the caller has chosen its part.
    """
    return _connected_components({clip.key for clip in data.clips}, _links(data), assigned)


def find_folds(data: DataSet) -> list[tuple[str, ...]]:
    """Returns the group names of each fold. Groups with the same name or of one scene are in one fold."""
    scenes = find_scenes(data)
    named: dict[Hashable, list[GroupKey]] = {}
    for key in scenes:
        named.setdefault(key[1], []).append(key)
    together = _connected_components(scenes.keys(), [*named.values(), *scenes.values()], ())
    return sorted({tuple(sorted({group for _, group in scene})) for scene in together.values()})


def _links(data: DataSet) -> Iterator[Collection[GroupKey]]:
    """Yields sets of groups that belong together. The sets may overlap."""
    alike: dict[Hashable, set[GroupKey]] = {}
    for clip in data.clips:
        alike.setdefault(clip.path, set()).add(clip.key)
        if clip.grouped_by == "manifest":
            alike.setdefault(clip.group, set()).add(clip.key)
    yield from alike.values()
    for paths in data.identical:
        yield set().union(*(alike.get(path, ()) for path in paths))


def _connected_components(
    keys: Collection[GroupKey], links: Iterable[Collection[GroupKey]], assigned: Collection[GroupKey]
) -> dict[GroupKey, Scene]:
    """Returns the connected component of each of ``keys`` under ``links``, without the links of ``assigned`` keys."""
    members: dict[GroupKey, set[GroupKey]] = {key: {key} for key in keys}
    for link in links:
        free = [key for key in link if key not in assigned]
        component = set().union(*(members[key] for key in free))
        members.update(dict.fromkeys(component, component))
    scenes: dict[int, Scene] = {id(component): tuple(sorted(component)) for component in members.values()}
    return {key: scenes[id(component)] for key, component in members.items()}

"""Labelled data sets: the clips, their labels and their groups.

In training a clip is a labelled file, or a part of one. In ``tagger`` a clip is the array of the frames of a window.

Clips of one *group* share a scene and its people. A model that was trained on one of them recognises the others too
easily, so a group is never divided between training and test.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from tagger.errors import DataSetError, one_line
from tagger.segments import BACKGROUND

GroupedBy = Literal["name", "folder", "manifest", "file", "background"]
Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

GroupKey = tuple[str, str]
"""A label and one of its groups."""


@dataclass(frozen=True)
class LabelledClip:
    """A video file, or a stretch of time in it, the label it shows, and the group it belongs to within its class.

    ``grouped_by`` is the source of the group: the ``name`` of the file (UCF-50/101), the ``folder`` inside the class
    folder (UCF-11), the ``manifest``, or the ``file`` itself when there is no group information. It is ``background``
    for the videos that ``add_background`` adds.
    ``start_s`` and ``end_s`` are in seconds from the first frame; an ``end_s`` of None is the end of the file. ``part``
    is the part of the split that a manifest or a folder such as ``train`` gives for the clip.
    """

    path: Path
    label: str
    group: str
    grouped_by: GroupedBy
    start_s: float = 0.0
    end_s: float | None = None
    part: Part | None = None

    @property
    def key(self) -> GroupKey:
        """The label and the group."""
        return self.label, self.group

    @property
    def is_whole(self) -> bool:
        """Whether the clip is its whole file."""
        return self.start_s == 0 and self.end_s is None


@dataclass(frozen=True)
class DataSet:
    """Labelled clips under one folder or of one manifest, in a fixed order.

    ``identical`` has sets of copies, which are files with the same content, in different groups (see
    ``find_identical``). ``part_folders`` are the names of the folders that are the parts of a split, such as ``train``
    and ``valid``; ``unlabelled`` are the videos in them that are in no class folder, and are no clips.
    """

    root: Path
    clips: tuple[LabelledClip, ...]
    identical: tuple[tuple[Path, ...], ...] = ()
    part_folders: tuple[str, ...] = ()
    unlabelled: tuple[Path, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def grouped_by(self) -> dict[GroupedBy, int]:
        """The number of clips for each source of their group."""
        return dict(Counter(clip.grouped_by for clip in self.clips))

    @property
    def given_split(self) -> str | None:
        """What gives the clips their parts, a manifest or the folders of a tree; None when they have no parts."""
        if self.part_folders:
            return f"the folders {', '.join(self.part_folders)}"
        return self.root.name if any(clip.part for clip in self.clips) else None


def data_set_of(root: Path, clips: Sequence[LabelledClip]) -> DataSet:
    """Returns the data set of ``clips``. Raises DataSetError when all are of one class.

    A label such as ``Background`` becomes ``background``, because vtag treats windows with this label in its own way.
    """
    clips = [replace(clip, label=_as_read(clip.label)) for clip in clips]
    classes = {clip.label for clip in clips}
    if len(classes) < 2:
        raise DataSetError(f"{root} has clips of one class only ({one_line(classes.pop())}); at least two are needed")
    return DataSet(root, tuple(clips))


def leave_out(data: DataSet, labels: Collection[str]) -> DataSet:
    """Returns ``data`` without the classes ``labels``.

    Raises DataSetError when ``data`` lacks one of them, and when fewer than two classes remain.
    """
    labels = {_as_read(label) for label in labels}
    absent = sorted(set(labels).difference(data.labels))
    if absent:
        raise DataSetError(f"{data.root} has no class {absent[0]!r} to leave out; it has {', '.join(data.labels)}")
    kept = [clip for clip in data.clips if clip.label not in labels]
    if not kept:
        raise DataSetError(f"all classes of {data.root} are left out; at least two are needed")
    return replace(data, clips=data_set_of(data.root, kept).clips)


def _as_read(label: str) -> str:
    return BACKGROUND if label.lower() == BACKGROUND else label

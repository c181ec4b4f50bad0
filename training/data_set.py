"""Labelled data sets: which clips there are, what they show, and which of them belong together.

Clips of one *group* share a scene and its people. A model that saw one of them in training has half seen the others,
so groups are never divided between training and test.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tagger.errors import DataSetError
from tagger.video.extensions import VIDEO_EXTENSIONS

GroupedBy = Literal["name", "folder", "file"]

# UCF-50 and UCF-101: v_Biking_g01_c02.avi
_UCF_NAME = re.compile(r"^v_.+_g(\d+)_c\d+$", re.IGNORECASE)
# UCF-11: the folder v_biking_01 inside the class folder
_UCF_FOLDER = re.compile(r"^v_.+_(\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledClip:
    """A video file, the label it shows, and the group it belongs to within its class."""

    path: Path
    label: str
    group: str


@dataclass(frozen=True)
class DataSet:
    """Labelled clips under one folder, in a fixed order.

    ``grouped_by`` tells where groups come from: the file ``name`` (UCF-50/101), the ``folder`` inside the class folder
    (UCF-11), or the ``file`` itself, when nothing tells which clips belong together.
    """

    root: Path
    clips: tuple[LabelledClip, ...]
    grouped_by: GroupedBy

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))


def read_data_set(root: str | Path) -> DataSet:
    """Finds the labelled clips under ``root``: ``class/clip``, ``class/group/clip``, UCF-11, UCF-50 or UCF-101.

    The label is the name of the first folder under ``root``. ``Annotation`` folders and hidden files are ignored.
    Raises DataSetError when there are no clips or only one class.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataSetError(f"{root} is not a folder; DATA is a folder with one sub-folder of clips for each class")
    found = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        hidden = any(part.startswith(".") or part.lower() == "annotation" for part in inside)
        if len(inside) >= 2 and not hidden and path.suffix.lower() in VIDEO_EXTENSIONS and path.is_file():
            found.append((path, inside))
    if not found:
        raise DataSetError(f"{root} holds no video in a class folder; expected {root.name}/CLASS/CLIP.mp4")
    grouped_by = _grouping([(path, inside) for path, inside in found])
    clips = tuple(LabelledClip(path, inside[0], _group(path, inside, grouped_by)) for path, inside in found)
    classes = Counter(clip.label for clip in clips)
    if len(classes) < 2:
        raise DataSetError(f"{root} has clips of one class only ({next(iter(classes))}); at least two are needed")
    return DataSet(root, clips, grouped_by)


def _grouping(found: list[tuple[Path, tuple[str, ...]]]) -> GroupedBy:
    if all(_UCF_NAME.match(path.stem) for path, _ in found):
        return "name"
    if all(len(inside) >= 3 for _, inside in found):
        return "folder"
    return "file"


def _group(path: Path, inside: tuple[str, ...], grouped_by: GroupedBy) -> str:
    if grouped_by == "name":
        match = _UCF_NAME.match(path.stem)
        assert match is not None
        return match.group(1)
    if grouped_by == "folder":
        match = _UCF_FOLDER.match(inside[1])
        return match.group(1) if match else inside[1]
    return "/".join(inside[1:])

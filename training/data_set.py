"""Labelled data sets: which clips there are, what they show, and which of them belong together.

Clips of one *group* share a scene and its people. A model that saw one of them in training has half seen the others,
so groups are never divided between training and test.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
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
    """A video file, the label it shows, and the group it belongs to within its class.

    ``grouped_by`` tells where the group comes from: the file's ``name`` (UCF-50/101), the ``folder`` inside the class
    folder (UCF-11), or the ``file`` itself, when nothing tells which clips belong together.
    """

    path: Path
    label: str
    group: str
    grouped_by: GroupedBy


@dataclass(frozen=True)
class DataSet:
    """Labelled clips under one folder, in a fixed order."""

    root: Path
    clips: tuple[LabelledClip, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def grouped_by(self) -> dict[GroupedBy, int]:
        """How many clips have their group from where."""
        return dict(Counter(clip.grouped_by for clip in self.clips))


def read_data_set(root: str | Path) -> DataSet:
    """Finds the labelled clips under ``root``: ``class/clip``, ``class/group/clip``, UCF-11, UCF-50 or UCF-101.

    The label is the name of the first folder under ``root``. ``Annotation`` folders and hidden files are ignored.
    Raises DataSetError when there are no clips or only one class.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataSetError(f"{root} is not a folder; DATA is a folder with one sub-folder of clips for each class")
    clips = tuple(_clip(path, path.relative_to(root).parts) for path in sorted(_videos(root)))
    if not clips:
        raise DataSetError(f"{root} holds no video in a class folder; expected {root.name}/CLASS/CLIP.mp4")
    classes = {clip.label for clip in clips}
    if len(classes) < 2:
        raise DataSetError(f"{root} has clips of one class only ({classes.pop()}); at least two are needed")
    return DataSet(root, clips)


def _videos(root: Path) -> Iterator[Path]:
    """Video files in the class folders, through symbolic links, too; each real folder once."""
    visited = {root.resolve()}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        subfolders[:] = [name for name in sorted(subfolders) if _counts(name) and _is_new(here / name, visited)]
        if here != root:
            yield from (here / name for name in files if _counts(name) and _is_video(here / name))


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() != "annotation"


def _is_new(folder: Path, visited: set[Path]) -> bool:
    real = folder.resolve()
    is_new = real not in visited
    visited.add(real)
    return is_new


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_EXTENSIONS and path.is_file()


def _clip(path: Path, inside: tuple[str, ...]) -> LabelledClip:
    """The clip at ``path``, whose parts below the root of the data set are ``inside``."""
    name, folder = _UCF_NAME.match(path.stem), _UCF_FOLDER.match(inside[1])
    if name:
        return LabelledClip(path, inside[0], name.group(1), "name")
    if len(inside) > 2:
        return LabelledClip(path, inside[0], folder.group(1) if folder else inside[1], "folder")
    return LabelledClip(path, inside[0], inside[1], "file")

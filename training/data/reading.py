"""Finds labelled clips in a tree of class folders (such as UCF-11, UCF-50 and UCF-101) or in a manifest."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tagger.errors import DataSetError
from tagger.video.extensions import VIDEO_EXTENSIONS
from training.data.data_set import DataSet, LabelledClip, data_set_of
from training.data.manifest import MANIFEST_EXTENSIONS, read_manifest

# UCF-50 and UCF-101: v_Biking_g01_c02.avi
_UCF_NAME = re.compile(r"^v_.+_g(\d+)_c\d+$", re.IGNORECASE)
# UCF-11: the folder v_biking_01 inside the class folder
_UCF_FOLDER = re.compile(r"^v_.+_(\d+)$", re.IGNORECASE)


def read_data_set(root: str | Path) -> DataSet:
    """Finds the labelled clips under ``root``: ``class/clip``, ``class/group/clip``, UCF-11, UCF-50 or UCF-101.

    The label is the name of the first folder under ``root``. ``Annotation`` folders and hidden files are ignored. A
    ``root`` that is a CSV or Parquet file is a manifest. Raises DataSetError when there are no clips or only one class.
    """
    root = Path(root)
    if root.is_file() and root.suffix.lower() in MANIFEST_EXTENSIONS:
        return read_manifest(root)
    if not root.is_dir():
        raise DataSetError(
            f"{root} is not a folder; DATA is a folder with one sub-folder of clips for each class, or a manifest: "
            "a CSV or Parquet file with the columns path and label"
        )
    clips = [_clip(path, path.relative_to(root).parts) for path in sorted(find_videos(root)) if path.parent != root]
    if not clips:
        raise DataSetError(f"{root} holds no video in a class folder; expected {root.name}/CLASS/CLIP.mp4")
    return data_set_of(root, clips)


def find_videos(root: Path) -> Iterator[Path]:
    """Yields the video files in ``root`` and its sub-folders; follows symbolic links, and visits a real folder once."""
    visited = {root.resolve()}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        subfolders[:] = [name for name in sorted(subfolders) if _is_included(name) and _is_new(here / name, visited)]
        yield from (here / name for name in files if _is_included(name) and _is_video(here / name))


def _is_included(name: str) -> bool:
    return not name.startswith(".") and name.lower() != "annotation"


def _is_new(folder: Path, visited: set[Path]) -> bool:
    real = folder.resolve()
    is_new = real not in visited
    visited.add(real)
    return is_new


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_EXTENSIONS and path.is_file()


def _clip(path: Path, inside: tuple[str, ...]) -> LabelledClip:
    """Returns the clip at ``path``; ``inside`` are the parts of the path below the root of the data set."""
    name, folder = _UCF_NAME.match(path.stem), _UCF_FOLDER.match(inside[1])
    if name:
        return LabelledClip(path, inside[0], name.group(1), "name")
    if len(inside) > 2:
        return LabelledClip(path, inside[0], folder.group(1) if folder else inside[1], "folder")
    return LabelledClip(path, inside[0], inside[1], "file")

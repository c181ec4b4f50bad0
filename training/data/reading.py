"""Finds labelled clips in a tree of class folders (such as UCF-11, UCF-50 and UCF-101) or in a manifest."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tagger.errors import DataSetError
from tagger.video.extensions import VIDEO_EXTENSIONS
from training.data.data_set import DataSet, LabelledClip, data_set_of
from training.data.manifest import MANIFEST_EXTENSIONS, read_manifest
from training.data.part_folders import Inside, in_order, part_level, part_named

# UCF-50 and UCF-101: v_Biking_g01_c02.avi
_UCF_NAME = re.compile(r"^v_.+_g(\d+)_c\d+$", re.IGNORECASE)
# UCF-11: the folder v_biking_01 inside the class folder
_UCF_FOLDER = re.compile(r"^v_.+_(\d+)$", re.IGNORECASE)


def read_data_set(root: str | Path) -> DataSet:
    """Finds the labelled clips under ``root``: ``class/clip``, ``class/group/clip``, UCF-11, UCF-50 or UCF-101.

    The label is the name of the first folder under ``root``. Folders such as ``train``, ``val`` and ``test`` above or
    below the class folders are the parts of a split (see ``part_folders``). ``Annotation`` folders and hidden files are
    ignored. A ``root`` that is a CSV or Parquet file is a manifest. Raises DataSetError when there are no clips or only
    one class.
    """
    root = Path(root)
    if root.is_file() and root.suffix.lower() in MANIFEST_EXTENSIONS:
        return read_manifest(root)
    if not root.is_dir():
        raise DataSetError(
            f"{root} is not a folder; DATA is a folder with one sub-folder of clips for each class, or a manifest: "
            "a CSV or Parquet file with the columns path and label"
        )
    places = [(path, path.relative_to(root).parts) for path in sorted(find_videos(root)) if path.parent != root]
    if not places:
        raise DataSetError(f"{root} holds no video in a class folder; expected {root.name}/CLASS/CLIP.mp4")
    level = part_level(str(root), [inside for _, inside in places])
    if level is not None:
        return _split_tree(root, places, level)
    return data_set_of(root, [_clip(path, inside) for path, inside in places])


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


def _split_tree(root: Path, places: Sequence[tuple[Path, Inside]], level: int) -> DataSet:
    """Returns the data set of a tree whose folders at ``level`` are the parts of a split."""
    folders = in_order({inside[level] for _, inside in places})
    clips = []
    for path, inside in places:
        if len(inside) > 2:
            clip = _clip(path, (*inside[:level], *inside[level + 1 :]))
            # Files in two parts may have the same name.
            group = f"{inside[level]}/{clip.group}" if clip.grouped_by == "file" else clip.group
            clips.append(replace(clip, group=group, part=part_named(inside[level])))
    if not clips:
        raise DataSetError(
            f"the folders {', '.join(folders)} in {root} have no class folders; expected "
            f"{root.name}/{folders[0]}/CLASS/CLIP.mp4, or a manifest: a CSV file with the columns path, label and split"
        )
    unlabelled = tuple(path for path, inside in places if len(inside) < 3)
    return replace(data_set_of(root, clips), part_folders=folders, unlabelled=unlabelled)


def _clip(path: Path, inside: Inside) -> LabelledClip:
    """Returns the clip at ``path``; ``inside`` are the parts of the path below the root of the data set."""
    name, folder = _UCF_NAME.match(path.stem), _UCF_FOLDER.match(inside[1])
    if name:
        return LabelledClip(path, inside[0], name.group(1), "name")
    if len(inside) > 2:
        return LabelledClip(path, inside[0], folder.group(1) if folder else inside[1], "folder")
    return LabelledClip(path, inside[0], inside[1], "file")

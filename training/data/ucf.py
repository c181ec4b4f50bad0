"""The official splits of UCF-101: ``trainlist01.txt`` and ``testlist01.txt`` of the folder ``ucfTrainTestlist``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tagger.errors import DataSetError
from tagger.file_content import decode_text
from training.data.data_set import DataSet, LabelledClip, Part

_LIST_NAME = re.compile(r"^(train|test)(list\d*\.txt)$")


@dataclass(frozen=True)
class ListedParts:
    """The part of each clip that the lists name, and the number of listed clips that are not in the data set."""

    parts: dict[LabelledClip, Part]
    absent: int


def read_split_lists(path: Path, data: DataSet) -> ListedParts:
    """Finds the clips of ``data`` in a test list and the training list beside it; ``path`` is either of them.

    A line is ``Class/v_Class_gNN_cNN.avi``, followed by the number of the class in a training list. Clips are matched
    by class and name, without the file ending and without regard to case: the class HandstandPushups is written in two
    ways. Raises DataSetError when ``path`` is not one of such a pair of lists, and when they list none of the clips.
    """
    name = _LIST_NAME.match(path.name)
    if not name:
        raise DataSetError(f"{path} is no official list; give a file like testlist01.txt, beside its trainlist01.txt")
    lists: dict[Part, Sequence[str]] = {
        "train": _read(path.with_name(f"train{name.group(2)}")),
        "test": _read(path.with_name(f"test{name.group(2)}")),
    }
    part_of = {key: part for part, keys in lists.items() for key in keys}
    both = set(lists["train"]) & set(lists["test"])
    if both:
        raise DataSetError(f"{min(both)} is in both lists, for training and for test: {path}")
    clips = {f"{clip.label}/{clip.path.stem}".lower(): clip for clip in data.clips}
    parts = {clip: part_of[key] for key, clip in clips.items() if key in part_of}
    if not parts:
        raise DataSetError(f"none of the clips of {path} is in {data.root}; it lists {next(iter(part_of), 'nothing')}")
    return ListedParts(parts, len(part_of) - len(parts))


def _read(path: Path) -> list[str]:
    """Reads the clips of a list, as ``class/name`` in lower case and without the file ending."""
    try:
        lines = decode_text(path.read_bytes(), likely="/.\n").splitlines()
    except FileNotFoundError:
        raise DataSetError(f"{path} is missing; a training list and a test list belong together") from None
    except UnicodeDecodeError:
        raise DataSetError(f"{path} is no list of clips, but neither UTF-8 nor UTF-16; save it as UTF-8") from None
    clips = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            # Lists may have been saved on Windows.
            clip = PurePosixPath(re.sub(r"\s+\d+$", "", line.strip()).replace("\\", "/"))
            if len(clip.parts) != 2:
                raise DataSetError(f"{path}, line {number} is {line.strip()[:100]!r}; expected CLASS/CLIP.avi")
            clips.append(str(clip.with_suffix("")).lower())
    return clips

"""Adds unlabelled footage as the class ``background``.

Most of an archive shows none of the labelled classes. A model that has learnt this class does not tag such footage as
one of the others.
"""

from dataclasses import replace
from pathlib import Path

from tagger.errors import DataSetError
from tagger.segments import BACKGROUND
from training.data.data_set import DataSet, LabelledClip
from training.data.inventory import take_inventory
from training.data.reading import find_videos

MAX_WHOLE_S = 60.0
"""Seconds up to which a whole video is one clip."""

PIECES, PIECE_S = 6, 10.0
"""Number of clips that are taken from a longer video, and seconds of each. A video of hours then does not outweigh all
others."""


def add_background(data: DataSet, folder: Path) -> DataSet:
    """Returns ``data`` with a class ``background`` of the videos in ``folder`` and its sub-folders.

    Each video is a group of its own. Unreadable videos are kept as clips: training skips and reports them like all
    unreadable clips. Raises DataSetError when ``data`` already has a class ``background``, when fewer than three videos
    can be read, and when a video already has a label in ``data``.
    """
    if BACKGROUND in data.labels:
        raise DataSetError(f"{data.root} has a class {BACKGROUND} already; rename it, or leave out --background")
    paths = sorted(find_videos(folder))
    if not paths:
        raise DataSetError(f"there are no videos in {folder} for --background")
    labelled = {clip.path.resolve() for clip in data.clips}
    both = next((path for path in paths if path.resolve() in labelled), None)
    if both is not None:
        raise DataSetError(f"{both} has a label in {data.root}; --background is for footage that shows no class of it")
    whole = [LabelledClip(path, BACKGROUND, str(path.relative_to(folder)), "background") for path in paths]
    found = take_inventory(DataSet(folder, tuple(whole)))
    if len(whole) - len(found.unreadable) < 3:
        bad = "".join(f"; {problem}" for problem in list(found.unreadable.values())[:1])
        raise DataSetError(
            f"{folder} has too few videos for --background: at least three that can be read are needed, for training, "
            f"validation and test{bad}"
        )
    clips = [
        LabelledClip(clip.path, BACKGROUND, clip.group, "background", start_s, end_s)
        for clip in whole
        for start_s, end_s in ([(0.0, None)] if clip in found.unreadable else pieces(found.seconds[clip]))
    ]
    return replace(data, clips=(*data.clips, *clips))


def pieces(duration_s: float) -> list[tuple[float, float | None]]:
    """Returns the start and end of each clip of a video, in seconds; an end of None is the end of the video.

    A ``duration_s`` of 0 means that the duration is unknown: the first ``PIECE_S`` seconds are taken.
    """
    if duration_s <= 0:
        return [(0.0, PIECE_S)]
    if duration_s <= MAX_WHOLE_S:
        return [(0.0, None)]
    middles = [(i + 0.5) * duration_s / PIECES for i in range(PIECES)]
    return [(round(middle - PIECE_S / 2, 3), round(middle + PIECE_S / 2, 3)) for middle in middles]

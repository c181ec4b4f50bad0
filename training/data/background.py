"""Footage without labels as a class of its own: what the archive is full of, so that it is taken for nothing else."""

from pathlib import Path

from tagger.errors import DataSetError
from training.data.data_set import BACKGROUND, DataSet, LabelledClip
from training.data.inventory import take_inventory
from training.data.reading import find_videos

WHOLE_S = 60.0
"""A video that is no longer than this is one clip."""

PIECES, PIECE_S = 6, 10.0
"""Of a longer one so many clips of so many seconds are taken: one of hours should not outweigh all others."""


def add_background(data: DataSet, folder: Path) -> DataSet:
    """``data`` and the class ``background``: the videos in ``folder`` and its sub-folders, each a group of its own.

    Videos that cannot be read are among its clips, to be skipped and named as any others. Raises DataSetError when
    there is such a class already, when fewer than three videos can be read, and when one has a label in ``data``.
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
    return DataSet(data.root, (*data.clips, *clips))


def pieces(duration_s: float) -> list[tuple[float, float | None]]:
    """Where the clips of a video start and end, in seconds; an end of None is that of the video.

    ``duration_s`` is 0 for a video that does not say how long it is: its beginning is taken.
    """
    if duration_s <= 0:
        return [(0.0, PIECE_S)]
    if duration_s <= WHOLE_S:
        return [(0.0, None)]
    middles = [(i + 0.5) * duration_s / PIECES for i in range(PIECES)]
    return [(round(middle - PIECE_S / 2, 3), round(middle + PIECE_S / 2, 3)) for middle in middles]

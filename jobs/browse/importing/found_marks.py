"""Marks of other tools, which have names of their own for videos, and the times of players."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from jobs.browse.importing.names import names_of, path_of
from jobs.browse.marks import DECIMALS, Mark, parse_label
from jobs.browse.recorded import read_recorded, video_names
from jobs.browse.segments import FinishedResult
from tagger.errors import InputError, one_line


@dataclass(frozen=True)
class FoundMark:
    """A mark in the file of another tool, at the place ``where``.

    One of ``names`` is the path, the address or the file name of its video, the likeliest first. Its times count from
    the start of the file, or from the first frame if it ``counts_from_frame``. ``label`` may be ``not LABEL``. If it
    ``names_a_stem``, its names may lack the ending.
    """

    where: str
    names: tuple[str, ...]
    start_s: float
    end_s: float
    label: str
    counts_from_frame: bool = False
    names_a_stem: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A mark that no segment of a result can have. ``has_video`` is whether the result has segments of its video."""

    has_video: bool
    words: str


def marks_in(finished: FinishedResult, found: Sequence[FoundMark], known: Collection[str] = ()) -> list[Mark]:
    """Returns the marks with the names of videos in a result, and times from the first frame.

    ``not LABEL`` is a denial, unless it is one of the ``known`` labels. Raises InputError for a video that may be one
    of several, and for a mark that no segment can have: of a video without segments, before its first frame, or after
    its end.
    """
    marks, left_out = place_marks(finished, found, known)
    if left_out:
        raise InputError(left_out[0].words)
    return marks


def place_marks(
    finished: FinishedResult, found: Sequence[FoundMark], known: Collection[str] = ()
) -> tuple[list[Mark], list[LeftOut]]:
    """Returns the marks as ``marks_in`` does, and those that no segment can have."""
    wanted = {name for mark in found for given in mark.names for name in names_of(given)}
    stems = {name for mark in found if mark.names_a_stem for given in mark.names for name in names_of(given)}
    by_name = videos_called(finished, wanted, stems)
    videos = [_video_of(mark, by_name, finished.path) for mark in found]
    recorded = read_recorded(finished, [video for video in videos if video is not None])
    marks, left_out = [], []
    for mark, video in zip(found, videos, strict=True):
        if video is None:
            shown = one_line(next(iter(mark.names), "")) or "of this row"
            hint = "videos are found by the names of their files"
            left_out.append(LeftOut(False, f"{mark.where}: {finished.path} has no video {shown}; {hint}"))
            continue
        about = recorded[video]
        shift_s = 0.0 if mark.counts_from_frame else about.stream_start_s or 0.0
        start_s, end_s = (max(0.0, round(time_s - shift_s, DECIMALS)) for time_s in (mark.start_s, mark.end_s))
        if about.segments == 0:
            left_out.append(LeftOut(False, f"{mark.where}: {finished.path} has no segments of {one_line(video)}"))
        elif start_s >= end_s:
            words = f"{mark.where} is before the first frame of {one_line(video)}, at {shift_s:g} s"
            left_out.append(LeftOut(True, words))
        elif about.duration_s is not None and start_s >= about.duration_s:
            words = f"{mark.where} is after the end of {one_line(video)}, at {about.duration_s + shift_s:g} s"
            left_out.append(LeftOut(True, words))
        else:
            marks.append(Mark(mark.where, video, start_s, end_s, *parse_label(mark.label, known)))
    return marks, left_out


def videos_called(
    finished: FinishedResult, wanted: Collection[str], stems: Collection[str] = ()
) -> Mapping[str, Sequence[str]]:
    """Returns the videos of a result by those of their names that are ``wanted``, or that are ``stems`` of them.

    An archive may have more videos than fit into memory, so no others are kept.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for video in video_names(finished):
        path = PurePosixPath(video)
        if path.name in wanted:
            by_name[path.name].append(video)
        if path.stem in stems and path.stem != path.name:
            by_name[path.stem].append(video)
    return by_name


def _video_of(mark: FoundMark, by_name: Mapping[str, Sequence[str]], place: str) -> str | None:
    """Returns the video of the result that one of the names of a mark is for, or None. ``place`` is the result."""
    for given in mark.names:
        if given in by_name.get(PurePosixPath(given).name, ()):
            return given
        path = path_of(given)
        found = list(dict.fromkeys(video for name in names_of(given) for video in by_name.get(name, ())))
        exact = [video for video in found if f"/{video}".endswith(f"/{path.lstrip('/')}")]
        if len(exact or found) > 1:
            name = one_line(PurePosixPath(path).name)
            raise InputError(f"{mark.where}: {place} has several videos with the name {name}; name its folder, too")
        if found:
            return (exact or found)[0]
    return None

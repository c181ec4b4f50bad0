"""Cuts moments out of videos into a folder of clips that ``vtag train`` reads: ``LABEL/VIDEO/CLIP``.

All clips of one class and video are in one folder, and so in one group: a split never divides them. The manifest also
says which clips of different classes are of one video.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from jobs.archive.video import video_path
from jobs.browse.cutting.encoding import encode_span
from jobs.browse.cutting.manifest import Clip, add_to_manifest, read_manifest
from jobs.browse.cutting.stream_copy import copy_ending, copy_span
from jobs.browse.moment import Moment
from jobs.browse.recorded import Recorded
from jobs.errors import JobError, reason
from jobs.storage.location import locate
from jobs.storage.staging import staged
from tagger.errors import OutputError, VideoError, doing, one_line

NAME_BYTES = 100
"""Bytes of a video's name that are part of the names of its clips."""

DECIMALS = 6
"""Decimals of the numbers of a clip, in the manifest as well."""


@dataclass(frozen=True)
class Uncut:
    """A video with moments that could not be cut, and why."""

    video: str
    reason: str


def cut_clips(
    moments: Iterable[Moment],
    out: Path,
    *,
    pad_s: float = 0.0,
    exact: bool = False,
    recorded: Mapping[str, Recorded] | None = None,
) -> Iterator[Clip | Uncut]:
    """Cuts ``moments`` out of their videos into the folder ``out``, ``pad_s`` longer on both sides, video by video.

    Yields each clip when it is complete and in its place, and each video that cannot be read. With ``exact``, the clips
    are encoded again and begin at the wanted time; otherwise packets are copied from the key frame before it. A video
    with another size than ``recorded`` is not cut, because it may show something else. At the end, also after an
    interruption, the manifest is written. Raises OutputError when ``out`` cannot be written, or when the manifest there
    is of another kind.
    """
    by_video: dict[str, list[Moment]] = {}
    for moment in moments:
        by_video.setdefault(moment.video, []).append(moment)
    written: list[Clip] = []
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        read_manifest(out)
        try:
            for video, wanted in sorted(by_video.items()):
                before = (recorded or {}).get(video, Recorded())
                for found in _cut_video(video, wanted, out, pad_s, before, exact=exact):
                    if isinstance(found, Clip):
                        written.append(found)
                    yield found
        finally:
            if written:
                add_to_manifest(out, written)


def _cut_video(
    video: str, moments: Sequence[Moment], out: Path, pad_s: float, recorded: Recorded, *, exact: bool
) -> Iterator[Clip | Uncut]:
    try:
        with staged(video_path(video)) as copy:
            source = Path(copy.path)
            if recorded.size is not None and source.is_file() and source.stat().st_size != recorded.size:
                yield Uncut(video, "it has changed since it was tagged; give the command of vtag run again")
                return
            for moment in moments:
                try:
                    with doing("cutting", video):
                        end_s = max(moment.end_s, min(moment.end_s + pad_s, recorded.duration_s or math.inf))
                        span = replace(moment, start_s=max(0.0, moment.start_s - pad_s), end_s=end_s)
                        yield _cut(source, span, out, recorded.duration_s, exact=exact)
                except VideoError as error:
                    # The other moments of a video that is gone or no video have the same error.
                    yield Uncut(video, _reason(copy.with_original_name(str(error)), video))
                    if error.kind != "damaged":
                        return
    except (VideoError, JobError) as error:
        yield Uncut(video, _reason(str(error), video))


def _cut(source: Path, moment: Moment, out: Path, duration_s: float | None, *, exact: bool) -> Clip:
    start_s, end_s = moment.start_s, moment.end_s
    ending = "mp4" if exact else copy_ending(source)
    name = f"{_stem(moment.video)}_{start_s:.2f}-{end_s:.2f}.{ending}"
    inside = PurePosixPath(_file_name(moment.label), group_name(moment.video), name)
    target = out / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    with locate(target).atomic_write() as temporary:
        begins_s = (encode_span if exact else copy_span)(source, start_s, end_s, temporary, duration_s)
    numbers = [round(number, DECIMALS) for number in (moment.confidence, start_s, end_s, begins_s)]
    return Clip(str(inside), moment.label, moment.video, *numbers)


def group_name(video: str) -> str:
    """Returns the name of the folder of a video's clips: its name without the ending, and a hash of where it is."""
    return f"{_stem(video)}-{hashlib.sha256(video.encode()).hexdigest()[:8]}"


def _stem(video: str) -> str:
    return _file_name(PurePosixPath(video).stem).encode()[:NAME_BYTES].decode("utf-8", "ignore")


def _file_name(text: str) -> str:
    """Returns ``text`` as the name of a file or folder that ``vtag train`` does not skip as hidden."""
    return re.sub(r"^\.", "_", re.sub(r"[/\0\r\n]", "_", one_line(text))) or "_"


def _reason(message: str, video: str) -> str:
    return message.removeprefix(video).lstrip(": ")


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{error.filename or out} cannot be written: {reason(error)}") from error

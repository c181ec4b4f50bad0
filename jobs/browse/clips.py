"""Cuts moments out of videos into a folder of clips that ``vtag train`` reads: ``LABEL/VIDEO/CLIP``.

All clips of one video are in one folder, and so in one group: a split never divides them. The manifest also says this
of clips in different classes.
"""

import contextlib
import csv
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import video_path
from jobs.browse.events import Rules, find_events
from jobs.browse.segments import FinishedResult
from jobs.browse.video_span import copy_ending, copy_span, encode_span
from jobs.errors import JobError, reason
from jobs.storage.location import locate
from jobs.storage.staging import staged
from tagger.errors import OutputError, VideoError, doing, one_line

MANIFEST = "manifest.csv"
"""The name of the manifest in the folder of clips."""

NAME_BYTES = 100
"""Bytes of a video's name that are part of the names of its clips."""


@dataclass(frozen=True)
class Recorded:
    """The size in bytes and the duration in seconds of a video when it was tagged; None where they are not known."""

    size: int | None = None
    duration_s: float | None = None


DECIMALS = 6
"""Decimals of numbers in the manifest."""


@dataclass(frozen=True)
class Moment:
    """A stretch of a video with a label, to be cut out."""

    video: str
    start_s: float
    end_s: float
    label: str
    confidence: float


@dataclass(frozen=True)
class Clip:
    """A clip that was written.

    ``path`` is relative to the folder of clips. ``group`` is the source video, ``source_start_s`` and ``source_end_s``
    the wanted span of it, and ``begins_s`` the time in it at which the clip begins.
    """

    path: str
    label: str
    group: str
    confidence: float
    source_start_s: float
    source_end_s: float
    begins_s: float


COLUMNS = [field.name for field in fields(Clip)]
"""The columns of the manifest."""


@dataclass(frozen=True)
class Uncut:
    """A video with moments that could not be cut, and why."""

    video: str
    reason: str


def best_events(finished: FinishedResult, labels: Sequence[str], min_confidence: float, top: int) -> list[Moment]:
    """Returns the ``top`` events of each of ``labels`` with the highest peaks, best first.

    The confidence of a moment is the peak of its event. Raises OutputError as ``read_segments``.
    """
    rules = Rules(min_confidence=min_confidence, only=frozenset(labels))
    best: dict[str, pa.Table] = {}
    for events in find_events(finished, rules):
        for label in labels:
            of_label = events.filter(pc.equal(events["label"], label))
            if not len(of_label):
                continue
            known = [best[label], of_label] if label in best else [of_label]
            order = [("peak_confidence", "descending"), ("video", "ascending"), ("start_s", "ascending")]
            best[label] = pa.concat_tables(known).sort_by(order).slice(0, top)
    return [
        Moment(row["video"], row["start_s"], row["end_s"], row["label"], row["peak_confidence"])
        for label in labels
        if label in best
        for row in best[label].to_pylist()
    ]


def read_recorded(finished: FinishedResult, videos: Iterable[str]) -> dict[str, Recorded]:
    """Returns what the result records of each of ``videos``. Raises OutputError when it cannot be read."""
    wanted = pa.array(sorted(set(videos)), pa.string())
    recorded: dict[str, Recorded] = {}
    for source in finished.result.sources:
        try:
            with source.videos.parquet() as file:
                for batch in file.iter_batches(columns=["video", "size", "duration_s"]):
                    rows = batch.filter(pc.is_in(batch["video"], wanted)).to_pylist()
                    recorded |= {row["video"]: Recorded(row["size"], row["duration_s"]) for row in rows}
        except OSError as error:
            raise OutputError(f"{source.videos} cannot be read: {reason(error)}; see vtag verify") from error
    return recorded


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
        _read_manifest(out)
        try:
            for video, wanted in sorted(by_video.items()):
                before = (recorded or {}).get(video, Recorded())
                for found in _cut_video(video, wanted, out, pad_s, before, exact=exact):
                    if isinstance(found, Clip):
                        written.append(found)
                    yield found
        finally:
            if written:
                _write_manifest(out, written)


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


def _read_manifest(out: Path) -> dict[str, dict[str, object]]:
    """Returns the rows of the manifest of ``out`` by path. Raises OutputError when ``vtag cut`` did not write it."""
    manifest = out / MANIFEST
    if not manifest.exists():
        return {}
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if list(reader.fieldnames or ()) != COLUMNS:
                raise ValueError
            return {row["path"]: dict(row) for row in reader}
    except (ValueError, csv.Error):
        raise OutputError(
            f"{manifest} is no manifest of vtag cut, which would replace it; choose another --out"
        ) from None


def _write_manifest(out: Path, clips: Sequence[Clip]) -> None:
    """Adds ``clips`` to the manifest of ``out``. Entries of clips that are no longer there are left out."""
    rows = _read_manifest(out) | {clip.path: asdict(clip) for clip in clips}
    kept = [row for path, row in sorted(rows.items()) if (out / path).is_file()]
    with locate(out / MANIFEST).atomic_write() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)

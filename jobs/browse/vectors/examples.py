"""Examples of what to look for: moments of the result, or of a video or a picture that the result's model sees anew."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError

from jobs.archive.video import video_path
from jobs.browse.result_model import find_result_model
from jobs.browse.segments import FinishedResult, Segments, read_segments
from jobs.browse.vectors.reading import vector_size, vectors_at
from jobs.storage.location import locate
from jobs.storage.staging import staged
from tagger.errors import InputError, VideoError, one_line
from tagger.file_content import check_regular
from tagger.isolation import decoder_of_this_thread
from tagger.video.facts import orientation
from tagger.windows import Sampling

if TYPE_CHECKING:
    from tagger.classifier import Classifier, DeviceName

PICTURES = frozenset({".avif", ".bmp", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings of pictures."""

PAN_STEP = 2 / 224
"""Movement across a picture from one frame of a window to the next, as a share of its shorter side. With an
earlier built-in model, the most similar video of 75 clips was then of the same scene for 31 of 32 pictures, and for 7
if nothing moved."""


@dataclass(frozen=True)
class Example:
    """What to look for. ``vectors`` ``[k, D] float32`` has one embedding for each of its windows.

    ``video``, ``start_s`` and ``end_s`` are its place in the result; ``video`` is None when it is not there.
    """

    text: str
    vectors: np.ndarray
    video: str | None = None
    start_s: float = 0.0
    end_s: float = math.inf


@dataclass
class _Wanted:
    """An example as the user typed it, and what the result has of it: segments, and their numbers in the result."""

    text: str
    names: frozenset[str]
    file: str
    second: float | None
    rows: list[int] = field(default_factory=list)
    segments: list[tuple[str, float, float]] = field(default_factory=list)


def read_examples(
    finished: FinishedResult, texts: Sequence[str], model: str | None = None, device: "DeviceName" = "auto"
) -> list[Example]:
    """Returns the examples that ``texts`` name: ``VIDEO``, ``VIDEO@SECONDS``, or a picture.

    A video of the result has its stored embeddings. Another is decoded, and the model of the result embeds it;
    ``model`` is its name or file, needed if it is a file. Raises InputError, ModelFileError or VideoError for what
    cannot be used, and OutputError as ``computed``.
    """
    vector_size(finished)
    wanted = [_parse(text) for text in texts]
    _look_up(finished, wanted)
    maker: _Embedder | None = None
    found = []
    for each in wanted:
        if each.segments:
            found.append(_stored(finished, each))
        else:
            maker = maker or _Embedder(finished, model, device)
            found.append(Example(each.text, maker.embed(each)))
    return found


def _parse(text: str) -> _Wanted:
    if not text:
        raise InputError("the name of an example is empty; give the path of a video or a picture")
    file, at, tail = text.rpartition("@")
    try:
        second = float(tail) if at and file else None
    except ValueError:
        second = None
    if second is None:
        file = text
    elif not 0 <= second < math.inf:
        raise InputError(f"{one_line(text)}: {tail} is no time; give seconds from the start of the video")
    try:
        names = frozenset({file, str(locate(file))})
    except (OSError, ValueError) as error:
        raise InputError(f"{one_line(text)} is neither a video nor a picture that can be read") from error
    return _Wanted(text, names, file, second)


def _look_up(finished: FinishedResult, wanted: Sequence[_Wanted]) -> None:
    """Finds the segments of the result that are examples."""
    begin = 0
    for segments in read_segments(finished):
        names = segments.videos.to_pylist()
        places = {name: number for number, name in enumerate(names)}
        for each in wanted:
            for name in each.names & places.keys():
                _add(segments, name, places[name], begin, each)
        begin += len(segments)


def _add(segments: Segments, name: str, place: int, begin: int, each: _Wanted) -> None:
    rows = np.arange(segments.first[place], segments.first[place + 1])
    start_s, end_s = segments.start_s[rows], segments.end_s[rows]
    if each.second is not None:
        covers = np.flatnonzero((start_s <= each.second) & (end_s > each.second))
        if not len(covers):
            raise InputError(
                f"{one_line(each.text)}: the result has no segment at {each.second:g} s of this video; its segments "
                f"are from {start_s[0]:g} s to {end_s[-1]:g} s"
            )
        # Of windows that overlap, the one in whose middle the moment is.
        rows = rows[covers[[np.abs((start_s + end_s)[covers] / 2 - each.second).argmin()]]]
    each.rows += (begin + rows).tolist()
    each.segments += [(name, float(segments.start_s[row]), float(segments.end_s[row])) for row in rows]


def _stored(finished: FinishedResult, each: _Wanted) -> Example:
    vectors = vectors_at(finished, np.array(each.rows))
    name, start_s, _ = each.segments[0]
    return Example(each.text, vectors, name, start_s, each.segments[-1][2])


class _Embedder:
    """Embeds videos and pictures with the model and the sampling of a result. The model is loaded when it is needed."""

    def __init__(self, finished: FinishedResult, model: str | None, device: "DeviceName"):
        self._path = finished.path
        self._source = find_result_model(finished, model)
        self._sampling = Sampling(**finished.result.identity.sampling)
        self._device = device
        self._classifier: Classifier | None = None

    def embed(self, each: _Wanted) -> np.ndarray:
        """Returns the embeddings of a file, ``[k, D] float32``."""
        try:
            with staged(video_path(each.file)) as copy:
                path = Path(copy.path)
                try:
                    if Path(each.file).suffix.lower() not in PICTURES:
                        return self._embed(path, each)
                    if each.second is not None:
                        raise InputError(f"{one_line(each.text)} is a picture; give it without @SECONDS")
                    with tempfile.TemporaryDirectory(prefix="vtag-") as folder:
                        return self._embed(_pan(path, Path(folder, "pan.mkv"), self._sampling), each)
                except VideoError as error:
                    raise VideoError(error.kind, copy.with_original_name(str(error))) from error
        except VideoError as error:
            if error.kind != "missing":
                raise
            raise InputError(f"{error}, and {self._path} has no video of this name") from error
        except OSError as error:
            raise InputError(f"{one_line(each.file)} cannot be read: {error.strerror or error}") from error

    def _embed(self, path: Path, each: _Wanted) -> np.ndarray:
        vectors: list[np.ndarray] = []
        spans = decoder_of_this_thread().spans(path, self._sampling, self._source.info.preprocessing)
        until_s = 0.0
        for span in spans:
            wanted = [
                number
                for number, window in enumerate(span.windows)
                if each.second is None or window.start_s <= each.second < window.end_s
            ]
            if wanted:
                if self._classifier is None:
                    self._classifier = self._source.load(self._device)
                vectors.append(self._classifier.classify_and_embed(span.clips[wanted])[2])
            if span.windows:
                until_s = span.windows[-1].end_s
                if each.second is not None and span.windows[-1].start_s > each.second:
                    break
            if span.end is not None and span.end.error_kind is not None and not vectors:
                raise VideoError(span.end.error_kind, span.end.error or f"{path} cannot be read")
        if not vectors:
            raise InputError(f"{one_line(each.text)}: the video ends at {until_s:g} s")
        return np.concatenate(vectors).astype(np.float32)


def _pan(picture: Path, video: Path, sampling: Sampling) -> Path:
    """Writes a video of one window that moves slowly across ``picture``, upright and without loss. Raises VideoError.

    In a window in which nothing moves, a model that sees movement has features unlike those of any video.
    """
    try:
        check_regular(picture)
        with av.open(str(picture)) as source:
            frame = next(source.decode(video=0))
        rotation, is_mirrored = orientation(frame)
        stored = frame.to_ndarray(format="rgb24")
        upright = np.rot90(stored[:, ::-1] if is_mirrored else stored, -rotation // 90)
        height, width = upright.shape[:2]
        step = PAN_STEP * min(height, width)
        seen = max(1, width - round(step * sampling.num_frames))
        with av.open(str(video), "w") as target:
            rate = Fraction(1 / sampling.step_s).limit_denominator(1000)
            stream = target.add_stream("ffv1", rate=rate)
            stream.height, stream.width, stream.pix_fmt = height, seen, "yuv444p"
            for number in range(sampling.num_frames):
                left = min(round(step * number), width - seen)
                pixels = np.ascontiguousarray(upright[:, left : left + seen], np.uint8)
                shown = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                shown.pts, shown.time_base = number, 1 / rate
                target.mux(stream.encode(shown))
            target.mux(stream.encode())
    except (FFmpegError, StopIteration, IndexError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise VideoError("missing", f"{picture} does not exist") from error
        raise VideoError("not_video", f"{picture} is no picture that can be read") from error
    return video

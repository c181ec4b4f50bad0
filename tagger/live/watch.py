"""Tags a live picture: ``watch("rtsp://camera/1")`` yields segments while they happen."""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

import numpy as np

from tagger.errors import InputError, VideoError
from tagger.live.connection import Connection, Wanted
from tagger.live.inbox import Ended, LiveWindow, Lost, Opened
from tagger.live.source import LiveSource, parse_source
from tagger.model_file import ModelInfo
from tagger.models.registry import BUILTIN
from tagger.segments import Segment, make_segments
from tagger.tagger import Tagger, load_model

IDLE_S = 1.0
"""Seconds between two calls of ``on_idle``."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pause in seconds before a lost source is opened again, at first and at most. It doubles each time."""

STALL_S = 10.0
"""Seconds without data after which a source is lost."""


@dataclass(frozen=True, kw_only=True)
class LiveSegment(Segment):
    """A segment of a live picture. ``start_s`` and ``end_s`` are seconds from the first frame that was seen.

    ``ended_at`` is when its last frame came. ``index`` counts by time: where it skips a number, a window was dropped,
    or some of the picture was not seen. ``latency_s`` is the time from the last frame to this segment, of which the
    model took ``model_s``.
    """

    ended_at: datetime
    latency_s: float
    model_s: float


@dataclass(frozen=True)
class Retry:
    """The source was lost, and is opened again after ``pause_s`` seconds."""

    reason: str
    pause_s: float


@dataclass(frozen=True)
class Dropped:
    """``windows`` were dropped since the last segment, because the model did not keep up."""

    windows: int


Event = Opened | Lost | Retry | Dropped


def pause(seconds: float, on_idle: Callable[[], None]) -> None:
    """Waits before a lost source is opened again."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, IDLE_S))
        on_idle()


def watch(
    source: str,
    *,
    model: str | Tagger = BUILTIN,
    hop_s: float | None = None,
    top_k: int = 5,
    pace: float | None = None,
    stall_s: float = STALL_S,
    on_event: Callable[[Event], None] = lambda event: None,
    on_picture: Callable[[bytes], None] | None = None,
    picture_every_s: float = 0.2,
) -> Generator[LiveSegment, None, None]:
    """Yields the segments of a live picture, each as soon as its last frame has come.

    ``source`` is a camera (``/dev/video0``, or its number), an address (``rtsp://``, ``rtmp://``, ``http(s)://``,
    ``udp://``, ``tcp://``), ``-`` for standard input, or a file. A file is read as fast as the model is, and no window
    of it is dropped; with ``pace`` it is shown at this multiple of its own speed, and so is a recording from standard
    input or a web server. ``model`` is a name, a file, or a loaded model. ``hop_s`` is the distance between window
    starts in seconds, by default half a window.

    A camera or stream that is lost, for example because it gave no data for ``stall_s`` seconds, is opened again after
    a growing pause. When the model does not keep up, windows are dropped, evenly. ``on_event`` gets a note of both.
    ``on_picture`` gets a JPEG of the picture every ``picture_every_s`` seconds, in another thread.

    Close the generator (``contextlib.closing``) to end earlier. Raises InputError for a source that is none and for
    the pace of a live source, VideoError for a file or pipe that cannot be read (any more), and the errors of
    ``load_model``.
    """
    found = parse_source(source)
    tagger = load_model(model) if isinstance(model, str) else model
    return watch_source(
        found,
        tagger,
        wanted_for(found, tagger.source.info, hop_s=hop_s, pace=pace, stall_s=stall_s),
        top_k=top_k,
        on_event=on_event,
        on_picture=on_picture,
        picture_every_s=picture_every_s,
    )


def wanted_for(
    source: LiveSource,
    model: ModelInfo,
    *,
    hop_s: float | None = None,
    pace: float | None = None,
    stall_s: float = STALL_S,
) -> Wanted:
    """Returns how ``watch`` watches a source. Raises ValueError for a hop or a pace that cannot be, and InputError for
    the pace of a live source."""
    if pace is not None and not 0 < pace < float("inf"):
        raise ValueError(f"pace is {pace}; it must be above 0")
    if pace is not None and source.is_live:
        kind = "camera" if source.kind == "camera" else "live stream"
        raise InputError(f"pace would change nothing: {source.name} is a {kind}, which comes at its own pace")
    sampling = replace(model.sampling, hop_s=model.sampling.window_s / 2 if hop_s is None else hop_s)
    keeps_all = source.kind == "file" and pace is None
    return Wanted(sampling, model.preprocessing, pace, keeps_all, stall_s)


def watch_source(
    source: LiveSource,
    tagger: Tagger,
    wanted: Wanted,
    *,
    top_k: int = 5,
    on_event: Callable[[Event], None] = lambda event: None,
    on_picture: Callable[[bytes], None] | None = None,
    picture_every_s: float = 0.2,
    on_idle: Callable[[], None] = lambda: None,
) -> Generator[LiveSegment, None, None]:
    """Does what ``watch`` describes, for a source that is parsed and a model that is loaded.

    ``on_idle`` is called every second in which nothing comes.
    """
    if on_picture is not None:
        wanted = replace(wanted, picture_every_s=picture_every_s, on_picture=on_picture)
    # The first windows of a model take longer. They must not be those of the picture.
    tagger.classifier.classify(np.zeros((1, wanted.sampling.num_frames, *wanted.preprocessing.shape), np.uint8), 1)
    origin_s: float | None = None
    after_s = 0.0
    pause_s = FIRST_PAUSE_S
    while True:
        connection = Connection(source, wanted, origin_s, after_s)
        with contextlib.closing(connection):
            dropped = 0
            while True:
                item = connection.take(IDLE_S)
                if item is None:
                    on_idle()
                    continue
                if isinstance(item, Ended):
                    break
                if not isinstance(item, LiveWindow):
                    on_event(item)
                    continue
                if connection.dropped > dropped:
                    on_event(Dropped(connection.dropped - dropped))
                    dropped = connection.dropped
                pause_s, after_s = FIRST_PAUSE_S, item.window.end_s
                segment = _classify(tagger, item, top_k)
                del item
                yield segment
            if connection.dropped > dropped:
                on_event(Dropped(connection.dropped - dropped))
        origin_s = connection.origin_s
        if item.is_finished:
            return
        if not source.is_repeatable or item.is_recording:
            is_named = item.reason.startswith(source.name)
            raise VideoError("io", item.reason if is_named else f"{source.name} cannot be read: {item.reason}")
        on_event(Retry(item.reason, pause_s))
        pause(pause_s, on_idle)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _classify(tagger: Tagger, live: LiveWindow, top_k: int) -> LiveSegment:
    begun_s = time.perf_counter()
    probabilities, ood_scores = tagger.classifier.classify(live.clip, 1)
    model_s = time.perf_counter() - begun_s
    (segment,) = make_segments([live.window], probabilities, tagger.labels, top_k, ood_scores)
    return LiveSegment(
        **{field.name: getattr(segment, field.name) for field in fields(Segment)},
        ended_at=datetime.fromtimestamp(live.at_s, UTC),
        latency_s=time.time() - live.at_s,
        model_s=model_s,
    )

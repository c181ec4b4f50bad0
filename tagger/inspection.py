"""Inspects a video without tagging it."""

from dataclasses import dataclass, replace
from pathlib import Path

from tagger.errors import ErrorKind, VideoError, one_line
from tagger.isolation import decoder_of_this_thread
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.cutting import choose_first_reader
from tagger.video.facts import VideoFacts
from tagger.windows import Sampling


@dataclass(frozen=True)
class Inspection:
    """The facts of a video, the reader that would be used, and the problems that were found.

    ``rate_varies`` is None when the frame times are not known. ``windows`` is the number of windows that a job would
    cut, None when the file declares no length; after a complete read it is the actual number. ``error_kind`` is set
    when a part of the video that was checked cannot be read. Each of the ``problems`` is one line.
    """

    path: str
    facts: VideoFacts | None = None
    rate_varies: bool | None = None
    choice: Choice | None = None
    windows: int | None = None
    error_kind: ErrorKind | None = None
    problems: tuple[str, ...] = ()


def inspect_video(
    path: str | Path, sampling: Sampling, preprocessing: Preprocessing, *, decode: bool = False
) -> Inspection:
    """Reads the headers and the first frame of a video; with ``decode``, the whole video. A bad video never raises."""
    decoder = decoder_of_this_thread()
    try:
        facts = decoder.probe(path)
    except VideoError as error:
        return Inspection(str(path), error_kind=error.kind, problems=(one_line(str(error)),))
    try:
        varies = decoder.rate_varies(path)
    except VideoError:
        varies = None
    if decode:
        return replace(_read_through(path, sampling, preprocessing), rate_varies=varies)
    problems = []
    kind: ErrorKind | None = None
    if facts.is_truncated:
        kind = "damaged"
        problems.append("the file ends before the end that it declares")
    if facts.duration_s is None:
        problems.append("its length is not declared")
    return Inspection(
        str(path),
        facts,
        varies,
        choose_first_reader(facts, sampling, preprocessing),
        None if facts.duration_s is None else sampling.window_count(facts.duration_s),
        kind,
        tuple(problems),
    )


def _read_through(path: str | Path, sampling: Sampling, preprocessing: Preprocessing) -> Inspection:
    end = None
    for span in decoder_of_this_thread().spans(path, sampling, preprocessing):
        end = span.end
    assert end is not None
    problems = () if end.error is None else (end.error,)
    return Inspection(str(path), end.facts, None, end.choice, end.windows, end.error_kind, problems)

"""The segments of a result that marks speak about, and a random sample of the others."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jobs.browse.labels import find_label, plain
from jobs.browse.marks import Mark
from jobs.browse.segments import FinishedResult, Segments, read_segments
from jobs.browse.vectors.reading import BLOCK_ROWS
from jobs.storage.location import locate
from tagger.errors import InputError, one_line

SAMPLE = 2000
"""Largest number of unmarked segments in the sample."""

SAMPLE_BLOCKS = 64
"""Largest number of blocks of BLOCK_ROWS segments that the sample is drawn from. Others are not read."""

SEED = 0


@dataclass(frozen=True)
class MarkedSegment:
    """A segment with a mark. ``row`` is its number in the result, and ``video`` that of its video.

    ``where`` is the place of its first mark. ``shown`` is the label that it shows, None if that is not known.
    ``denied`` are labels that it does not show.
    """

    where: str
    row: int
    video: int
    shown: str | None
    denied: frozenset[str]


@dataclass(frozen=True)
class MarkedResult:
    """The marked segments of a result in the order of their rows.

    ``sample`` ``[n]`` are the sorted rows of unmarked segments, ``sample_video`` ``[n]`` the numbers of their videos.
    """

    segments: tuple[MarkedSegment, ...]
    sample: np.ndarray
    sample_video: np.ndarray


@dataclass
class _Said:
    """What the marks say about a segment, and where."""

    where: str
    video: int
    times: tuple[float, float]
    shown: dict[str, str] = field(default_factory=dict)
    denied: dict[str, str] = field(default_factory=dict)


def with_known_labels(marks: Sequence[Mark], known: Sequence[str]) -> list[Mark]:
    """Returns the marks with their labels spelled as in ``known`` or as in the first mark of the label.

    Case, spaces, hyphens and underscores make no other label. Raises InputError for the denial of a label that neither
    the model nor a mark has.
    """
    spelled = {plain(label): label for label in reversed(known)}
    for mark in marks:
        if not mark.is_denial:
            spelled.setdefault(plain(mark.label), mark.label)
    found = []
    for mark in marks:
        label = mark.label if mark.label in known else spelled.get(plain(mark.label))
        found.append(replace(mark, label=label or _denied(mark, sorted(spelled.values()))))
    return found


def _denied(mark: Mark, labels: Sequence[str]) -> str:
    try:
        return find_label(mark.label, labels, "the taught model")
    except InputError as error:
        raise InputError(f"{mark.where}: {error}") from error


def find_marked(finished: FinishedResult, marks: Sequence[Mark]) -> MarkedResult:
    """Finds the segments that the marks speak about, and draws the sample, in one pass through the tags.

    A mark speaks about the segments of which more than half lies inside it. If there is none, it speaks about the
    segment of which most lies inside it. Segments that only touch a mark are not in the sample. The same result and
    marks give the same sample. Raises InputError for a mark of no segment and for marks that contradict each other, and
    OutputError as ``read_segments``.
    """
    by_video = _by_video(marks)
    said: dict[int, _Said] = {}
    touched: list[int] = []
    firsts: list[np.ndarray] = []
    seen: set[str] = set()
    begin = videos = 0
    for segments in read_segments(finished):
        names = segments.videos.to_pylist()
        places = {name: number for number, name in enumerate(names)}
        for name in by_video.keys() & places.keys():
            seen.update(mark.where for mark in by_video[name])
            first = int(segments.first[places[name]])
            last = int(segments.first[places[name] + 1])
            touched += _apply(by_video[name], segments, first, last, begin, videos + places[name], said)
        firsts.append(begin + segments.first[:-1])
        begin += len(segments)
        videos += len(names)
    missing = next((mark for mark in marks if mark.where not in seen), None)
    if missing is not None:
        raise InputError(
            f"{missing.where}: {finished.path} has no segments of a video {one_line(missing.video)!r}; give its path "
            "or address as in the result"
        )
    rows = _sample(begin, frozenset(touched))
    sample_video = np.searchsorted(np.concatenate(firsts), rows, side="right") - 1
    found = [
        MarkedSegment(each.where, row, each.video, next(iter(each.shown), None), frozenset(each.denied))
        for row, each in sorted(said.items())
    ]
    return MarkedResult(tuple(found), rows, sample_video)


def _by_video(marks: Sequence[Mark]) -> Mapping[str, list[Mark]]:
    """Returns the marks by the names that the result may have for their videos."""
    found: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        try:
            names = {mark.video, str(locate(mark.video))}
        except (OSError, ValueError):
            names = {mark.video}
        for name in names:
            found[name].append(mark)
    return found


def _apply(
    marks: Sequence[Mark],
    segments: Segments,
    first: int,
    last: int,
    begin: int,
    video: int,
    said: dict[int, _Said],
) -> list[int]:
    """Adds to ``said`` what the marks of one video say about its segments, the rows ``first`` to ``last - 1``.

    Returns the numbers in the result of all segments that a mark touches.
    """
    start_s, end_s = segments.start_s[first:last], segments.end_s[first:last]
    touched = []
    for mark in marks:
        overlap_s = np.minimum(end_s, mark.end_s) - np.maximum(start_s, mark.start_s)
        if not (overlap_s > 0).any():
            raise InputError(
                f"{mark.where}: {one_line(mark.video)} has no segment from {mark.start_s:g} s to {mark.end_s:g} s; its "
                f"segments are from {start_s[0]:g} s to {end_s[-1]:g} s"
            )
        inside = np.flatnonzero(overlap_s > (end_s - start_s) / 2)
        for number in inside if len(inside) else [int(overlap_s.argmax())]:
            row = begin + first + int(number)
            times = float(start_s[number]), float(end_s[number])
            _say(said.setdefault(row, _Said(mark.where, video, times)), mark)
        touched += (begin + first + np.flatnonzero(overlap_s > 0)).tolist()
    return touched


def _say(said: _Said, mark: Mark) -> None:
    """Adds a mark of a segment. Raises InputError when it contradicts the marks before it."""
    (said.denied if mark.is_denial else said.shown).setdefault(mark.label, mark.where)
    before = [(label, where) for label, where in said.shown.items() if (label == mark.label) == mark.is_denial]
    if not mark.is_denial and mark.label in said.denied:
        before.append((f"not {mark.label}", said.denied[mark.label]))
    if before:
        (other, where), *_ = before
        start_s, end_s = said.times
        raise InputError(
            f"{mark.where}: the segment from {start_s:g} s to {end_s:g} s of {one_line(mark.video)} is marked "
            f"{'not ' * mark.is_denial}{mark.label} here and {other} in {where}; a segment has one label"
        )


def _sample(total: int, left_out: Collection[int]) -> np.ndarray:
    """Returns up to SAMPLE random numbers below ``total`` that are not ``left_out``, sorted."""
    random = np.random.default_rng(SEED)
    blocks = -(-total // BLOCK_ROWS)
    chosen = random.choice(blocks, min(blocks, SAMPLE_BLOCKS), replace=False)
    rows = (chosen[:, None] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).ravel()
    rows = rows[(rows < total) & ~np.isin(rows, np.array(sorted(left_out), np.int64))]
    return np.sort(random.choice(rows, min(len(rows), SAMPLE), replace=False))

"""Checks a data set before training: the duration of each clip, and which clips cannot be read."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import VideoError
from tagger.isolation import decoder_of_this_thread
from training.data.data_set import DataSet, LabelledClip

PROBE_PROCESSES = 8
"""Processes that open videos at the same time. On a network disk they mostly wait."""


@dataclass(frozen=True)
class Inventory:
    """The duration of each readable clip in seconds, and the reason for each unreadable one.

    A clip whose file does not tell its duration counts as 0 s.
    """

    seconds: dict[LabelledClip, float]
    unreadable: dict[LabelledClip, str]

    def seconds_of(self, clips: Iterable[LabelledClip]) -> float:
        """The total duration of ``clips`` in seconds."""
        return sum(self.seconds.get(clip, 0.0) for clip in clips)


def take_inventory(data: DataSet, on_probed: Callable[[int], None] = lambda probed: None) -> Inventory:
    """Opens every file of ``data`` in separate processes. ``on_probed`` gets the number of files so far."""
    seconds: dict[LabelledClip, float] = {}
    unreadable: dict[LabelledClip, str] = {}
    clips_of: dict[Path, list[LabelledClip]] = {}
    for clip in data.clips:
        clips_of.setdefault(clip.path, []).append(clip)

    def duration_of(path: Path) -> float | str:
        try:
            return decoder_of_this_thread().probe(path).duration_s or 0.0
        except VideoError as error:
            return str(error)

    with ThreadPoolExecutor(min(PROBE_PROCESSES, len(clips_of))) as pool:
        for probed, (path, found) in enumerate(zip(clips_of, pool.map(duration_of, clips_of), strict=True), start=1):
            for clip in clips_of[path]:
                result = _clip_seconds(clip, found)
                if isinstance(result, str):
                    unreadable[clip] = result
                else:
                    seconds[clip] = result
            on_probed(probed)
    return Inventory(seconds, unreadable)


def _clip_seconds(clip: LabelledClip, found: float | str) -> float | str:
    """Returns the duration of a clip in seconds, or an error. ``found`` is the same for its file."""
    if isinstance(found, str):
        return found
    if 0 < found <= clip.start_s:
        return f"{clip.path} ends at {found:.2f} s, before its clip begins, at {clip.start_s:g} s"
    end_s = found if clip.end_s is None else min(found, clip.end_s)
    return max(0.0, end_s - clip.start_s)

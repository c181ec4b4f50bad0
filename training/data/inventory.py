"""Looking at a data set before anything is trained: how much there is, and what cannot be read."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import VideoError
from tagger.isolation import decoder_of_this_thread
from training.data.data_set import DataSet, LabelledClip

PROBES = 8
"""Processes that open videos at a time. On a network disk most of their time is waiting."""


@dataclass(frozen=True)
class Inventory:
    """How long each clip is, in seconds, and why some cannot be read.

    A clip whose file does not say how long it is counts as 0 s.
    """

    seconds: dict[LabelledClip, float]
    unreadable: dict[LabelledClip, str]

    def seconds_of(self, clips: Iterable[LabelledClip]) -> float:
        """How long ``clips`` are together."""
        return sum(self.seconds.get(clip, 0.0) for clip in clips)


def take_inventory(data: DataSet, on_probed: Callable[[int], None] = lambda probed: None) -> Inventory:
    """Opens every file of ``data``, in processes of their own. ``on_probed`` gets the number of files so far."""
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

    with ThreadPoolExecutor(min(PROBES, len(clips_of))) as pool:
        for probed, (path, found) in enumerate(zip(clips_of, pool.map(duration_of, clips_of), strict=True), start=1):
            for clip in clips_of[path]:
                if isinstance(found, str):
                    unreadable[clip] = found
                elif 0 < found <= clip.start_s:
                    unreadable[clip] = f"{path} ends at {found:.2f} s, before its clip begins, at {clip.start_s:g} s"
                else:
                    end_s = found if clip.end_s is None else min(found, clip.end_s)
                    seconds[clip] = max(0.0, end_s - clip.start_s)
            on_probed(probed)
    return Inventory(seconds, unreadable)

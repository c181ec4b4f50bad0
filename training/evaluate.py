"""Judging a model file on labelled clips, through the same path that tags an archive."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.errors import DataSetError
from tagger.tagger import Tagger
from training.data_set import DataSet, LabelledClip
from training.decoding import decode_clips
from training.metrics import Scores, average_by_video, score
from training.sources import OnClip
from training.splits import select_groups


@dataclass(frozen=True)
class Evaluation:
    """Scores by video (probabilities averaged over its windows) and by window; clips that could not be read."""

    videos: Scores
    windows: Scores
    unreadable: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "videos": self.videos.to_json(),
            "windows": self.windows.to_json(),
            "unreadable": self.unreadable,
        }


def clips_of_split(tagger: Tagger, data: DataSet, split: str) -> tuple[LabelledClip, ...]:
    """The clips of ``data`` in the ``val`` or ``test`` groups that the model file remembers, or ``all``.

    Raises DataSetError when the model has no such groups or the data set none of them, or has a class that the model
    does not know.
    """
    unknown = sorted(set(data.labels) - set(tagger.labels))
    if unknown:
        raise DataSetError(f"{data.root} has classes that the model does not know: {', '.join(unknown[:5])}")
    if split == "all":
        return data.clips
    groups = tagger.source.info.training.get("groups", {}).get(split)
    if not groups:
        raise DataSetError(f"the model {tagger.source.name} does not say which groups its {split} had; use --split all")
    clips = select_groups(data, groups)
    if not clips:
        raise DataSetError(f"{data.root} has none of the groups that the model held out for {split}; use --split all")
    return clips


def evaluate_clips(
    tagger: Tagger, clips: Sequence[LabelledClip], *, on_clip: OnClip = lambda clip, problem: None
) -> Evaluation:
    """Classifies every window of ``clips`` and scores windows and videos. Raises DataSetError when none can be read."""
    index = {label: i for i, label in enumerate(tagger.labels)}
    probabilities: list[np.ndarray] = []
    truth: list[int] = []
    videos: list[int] = []
    unreadable = 0
    for number, decoded in enumerate(decode_clips(clips, tagger.sampling, tagger.source.info.preprocessing)):
        count = len(decoded.windows)
        unreadable += count == 0
        if count:
            probabilities.append(tagger.classifier.probabilities(decoded.windows))
            truth += [index[decoded.clip.label]] * count
            videos += [number] * count
        on_clip(decoded.clip, decoded.problem)
    if not probabilities:
        raise DataSetError("none of the clips could be read")
    by_window, window_truth, window_video = np.concatenate(probabilities), np.array(truth), np.array(videos)
    distinct, by_video = average_by_video(by_window, window_video)
    video_truth = window_truth[np.searchsorted(window_video, distinct)]
    return Evaluation(
        videos=score(video_truth, by_video.argmax(1), tagger.labels),
        windows=score(window_truth, by_window.argmax(1), tagger.labels),
        unreadable=unreadable,
    )

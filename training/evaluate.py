"""Judging a model file on labelled clips, through the same path that tags an archive."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from tagger.errors import DataSetError
from tagger.tagger import Tagger
from training.calibration import Reliability, reliability
from training.data_set import DataSet, LabelledClip
from training.decoding import decode_clips
from training.ingest import OnClip
from training.metrics import Scores, average_by_video, score
from training.splits import select_groups


@dataclass(frozen=True)
class Predictions:
    """What a model said to every window of the ``clips`` that could be read.

    ``logits`` ``[n, classes]`` are those of the network, each row up to a constant; ``videos`` ``[n]`` says of which
    clip each window is. The tagger divides logits by ``temperature``. ``unreadable`` has clips and why they are not
    among ``clips``.
    """

    labels: tuple[str, ...]
    temperature: float
    clips: tuple[LabelledClip, ...]
    logits: np.ndarray
    videos: np.ndarray
    unreadable: tuple[tuple[LabelledClip, str], ...] = ()

    @property
    def truth(self) -> np.ndarray:
        """The true class index of each clip, ``[clips]``."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index[clip.label] for clip in self.clips])

    @property
    def groups(self) -> np.ndarray:
        """A number for the group of each clip, ``[clips]``."""
        names = [(clip.label, clip.group) for clip in self.clips]
        numbers = {name: i for i, name in enumerate(sorted(set(names)))}
        return np.array([numbers[name] for name in names])

    def by_window(self, temperature: float) -> np.ndarray:
        """Probabilities ``[n, classes]`` of the windows."""
        return softmax(self.logits / temperature, axis=1)

    def by_video(self, temperature: float) -> np.ndarray:
        """Probabilities ``[clips, classes]``, averaged over the windows of each clip."""
        return average_by_video(self.by_window(temperature), self.videos)[1]

    def of(self, clips: Collection[LabelledClip]) -> "Predictions":
        """The predictions for some of the clips."""
        kept = [i for i, clip in enumerate(self.clips) if clip in clips]
        position = {old: new for new, old in enumerate(kept)}
        windows = [i for i, video in enumerate(self.videos.tolist()) if video in position]
        return Predictions(
            self.labels,
            self.temperature,
            tuple(self.clips[i] for i in kept),
            self.logits[windows],
            np.array([position[video] for video in self.videos[windows].tolist()]),
            self.unreadable,
        )


@dataclass(frozen=True)
class Calibration:
    """Whether confidences mean what they say, as the network gives them and divided by the temperature."""

    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class Evaluation:
    """Scores and calibration by video (probabilities averaged over its windows) and by window.

    ``unreadable`` counts the clips that could not be read. ``predictions`` is what all this was calculated from; it is
    no part of the JSON.
    """

    videos: Scores
    windows: Scores
    temperature: float
    videos_calibration: Calibration
    windows_calibration: Calibration
    unreadable: int
    predictions: Predictions = field(compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form, small enough for a model file."""
        return {
            "videos": self.videos.to_json(),
            "windows": self.windows.to_json(),
            "calibration": {
                "temperature": self.temperature,
                "videos_before": self.videos_calibration.before.error,
                "videos_after": self.videos_calibration.after.error,
                "windows_before": self.windows_calibration.before.error,
                "windows_after": self.windows_calibration.after.error,
            },
            "unreadable": self.unreadable,
        }


@dataclass(frozen=True)
class Verdict:
    """What a model took one clip for, and how sure it was."""

    clip: LabelledClip
    label: str
    confidence: float

    @property
    def is_right(self) -> bool:
        """Whether it is what the clip shows."""
        return self.label == self.clip.label


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
    return judge(classify_clips(tagger, clips, on_clip=on_clip))


def classify_clips(
    tagger: Tagger, clips: Sequence[LabelledClip], *, on_clip: OnClip = lambda clip, problem: None
) -> Predictions:
    """Classifies every window of ``clips``. Raises DataSetError when none of them can be read."""
    probabilities: list[np.ndarray] = []
    videos: list[int] = []
    read: list[LabelledClip] = []
    unreadable: list[tuple[LabelledClip, str]] = []
    for decoded in decode_clips(clips, tagger.sampling, tagger.source.info.preprocessing):
        count = len(decoded.windows)
        if count:
            probabilities.append(tagger.classifier.probabilities(decoded.windows))
            videos += [len(read)] * count
            read.append(decoded.clip)
        else:
            unreadable.append((decoded.clip, decoded.problem or "it has no frames"))
        on_clip(decoded.clip, decoded.problem)
    if not read:
        raise DataSetError("none of the clips could be read")
    temperature = tagger.source.info.temperature
    return Predictions(
        labels=tuple(tagger.labels),
        temperature=temperature,
        clips=tuple(read),
        logits=_logits(np.concatenate(probabilities), temperature),
        videos=np.array(videos),
        unreadable=tuple(unreadable),
    )


def judge(predictions: Predictions) -> Evaluation:
    """Scores predictions; no model is run."""
    labels, temperature, videos = predictions.labels, predictions.temperature, predictions.videos
    truth, groups = predictions.truth, predictions.groups
    by_video, by_window = predictions.by_video(temperature), predictions.by_window(temperature)
    return Evaluation(
        videos=score(truth, by_video, labels, groups),
        windows=score(truth[videos], by_window, labels, groups[videos]),
        temperature=temperature,
        videos_calibration=Calibration(reliability(truth, predictions.by_video(1)), reliability(truth, by_video)),
        windows_calibration=Calibration(
            reliability(truth[videos], predictions.by_window(1)), reliability(truth[videos], by_window)
        ),
        unreadable=len(predictions.unreadable),
        predictions=predictions,
    )


def verdicts(predictions: Predictions) -> list[Verdict]:
    """What each clip was taken for, in the order of the clips."""
    probabilities = predictions.by_video(predictions.temperature)
    return [
        Verdict(clip, predictions.labels[row.argmax()], float(row.max()))
        for clip, row in zip(predictions.clips, probabilities, strict=True)
    ]


def worst_mistakes(predictions: Predictions, limit: int) -> list[Verdict]:
    """The clips that were taken for something else with the highest confidence: at most ``limit`` of them."""
    wrong = [verdict for verdict in verdicts(predictions) if not verdict.is_right]
    return sorted(wrong, key=lambda verdict: -verdict.confidence)[:limit]


def _logits(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The logits, up to a constant in each row, that gave these float32 ``[n, classes]`` probabilities."""
    # A probability too small for float32 has become 0, and a logit of minus infinity would stay so at any temperature.
    smallest = np.finfo(np.float32).smallest_subnormal
    logarithms = np.log(np.maximum(probabilities, smallest).astype(np.float64))
    return log_softmax(logarithms * temperature, axis=1)

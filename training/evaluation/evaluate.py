"""Evaluates a model file on labelled clips, with the same decoding and prediction as the tagger.

Here a video is one labelled clip.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tagger.errors import DataSetError
from tagger.ood import OODCalibration
from tagger.tagger import Tagger
from training.data.data_set import DataSet, LabelledClip
from training.data.splits import select_groups
from training.evaluation.calibration import Reliability, reliability
from training.evaluation.metrics import Scores, average_by_video, score
from training.evaluation.unknown import UnknownScores, WindowLogits, score_unknown
from training.inputs.clip_cache import ClipCache
from training.inputs.clip_decoding import decode_clips
from training.inputs.forms import TaggerFeatures, Windows
from training.inputs.ingest import OnClip, clip_arrays


@dataclass(frozen=True)
class Predictions:
    """The output of a model for every window of the ``clips`` that could be read.

    ``logits`` ``[n, classes]`` are those of the network; ``videos`` ``[n]`` has the index of the clip of each window.
    The tagger divides the logits by ``temperature`` and calculates the ``ood_score`` from them with ``ood``.
    ``unreadable`` has the other clips, each with its error.
    """

    labels: tuple[str, ...]
    temperature: float
    clips: tuple[LabelledClip, ...]
    logits: np.ndarray
    videos: np.ndarray
    unreadable: tuple[tuple[LabelledClip, str], ...] = ()
    ood: OODCalibration | None = None

    @property
    def truth(self) -> np.ndarray:
        """The true class index of each clip, ``[clips]``. Requires that the model knows the classes of all clips."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index[clip.label] for clip in self.clips])

    @property
    def groups(self) -> np.ndarray:
        """A number for the group of each clip, ``[clips]``."""
        names = [(clip.label, clip.group) for clip in self.clips]
        numbers = {name: i for i, name in enumerate(sorted(set(names)))}
        return np.array([numbers[name] for name in names])

    def by_window(self, temperature: float) -> np.ndarray:
        """Returns the probabilities ``[n, classes]`` of the windows."""
        # Imported here for the same reason as scikit-learn (training/evaluation/metrics.py).
        from scipy.special import softmax

        return softmax(self.logits / temperature, axis=1)

    def by_video(self, temperature: float) -> np.ndarray:
        """Returns the probabilities ``[clips, classes]``, averaged over the windows of each clip."""
        return average_by_video(self.by_window(temperature), self.videos)[1]

    def of(self, clips: Collection[LabelledClip]) -> "Predictions":
        """Returns the predictions for some of the clips."""
        wanted = set(clips)
        kept = [i for i, clip in enumerate(self.clips) if clip in wanted]
        position = {old: new for new, old in enumerate(kept)}
        windows = [i for i, video in enumerate(self.videos.tolist()) if video in position]
        return replace(
            self,
            clips=tuple(self.clips[i] for i in kept),
            logits=self.logits[windows],
            videos=np.array([position[video] for video in self.videos[windows].tolist()], np.intp),
        )


def pool(parts: Sequence[Predictions]) -> Predictions:
    """Joins the predictions of several models that know the same labels, each for other clips.

    The logits of each model are divided by its temperature, so the temperature of the result is 1. There is no
    calibration of out-of-distribution scores.
    """
    starts = np.cumsum([0, *(len(part.clips) for part in parts)])
    return Predictions(
        labels=parts[0].labels,
        temperature=1.0,
        clips=tuple(clip for part in parts for clip in part.clips),
        logits=np.concatenate([part.logits / part.temperature for part in parts]),
        videos=np.concatenate([part.videos + start for part, start in zip(parts, starts, strict=False)]),
        unreadable=tuple(clip for part in parts for clip in part.unreadable),
    )


@dataclass(frozen=True)
class Calibration:
    """The reliability of confidences before and after temperature scaling."""

    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class Evaluation:
    """Scores and calibration by video (probabilities averaged over its windows) and by window.

    ``unknown`` has the scores for clips of classes that the model does not know; None when there are none. The scores
    of the other fields leave out these clips. ``unreadable`` counts all clips that could not be read. ``predictions``
    are those from which the scores were calculated; they are not in the JSON.
    """

    videos: Scores
    windows: Scores
    temperature: float
    videos_calibration: Calibration
    windows_calibration: Calibration
    unreadable: int
    predictions: Predictions = field(compare=False, repr=False)
    unknown: UnknownScores | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready form, small enough for a model file."""
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
            **({} if self.unknown is None else {"unknown": self.unknown.to_json()}),
        }


@dataclass(frozen=True)
class Verdict:
    """The predicted label of one clip, and its confidence."""

    clip: LabelledClip
    label: str
    confidence: float

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the label of the clip."""
        return self.label == self.clip.label


def clips_of_split(tagger: Tagger, data: DataSet, split: str) -> tuple[LabelledClip, ...]:
    """Returns the clips of ``data`` in the ``val`` or ``test`` groups that the model file stores, or ``all`` clips.

    Clips of classes that the model does not know are left out; see ``unknown_clips``. Raises DataSetError when the data
    set has none of the model's classes, when the model file has no such groups, or when the data set has none of these
    groups.
    """
    known = tuple(clip for clip in data.clips if clip.label in tagger.labels)
    if not known:
        raise DataSetError(
            f"{data.root} has none of the classes that the model {tagger.source.name} knows, but {_some(data.labels)}"
        )
    if split == "all":
        return known
    groups = tagger.source.info.training.get("groups", {}).get(split)
    if not groups:
        raise DataSetError(f"the model {tagger.source.name} does not record its {split} groups; use --split all")
    clips = select_groups(data, groups)
    if not clips:
        raise DataSetError(f"{data.root} has none of the groups that the model held out for {split}; use --split all")
    return clips


def unknown_clips(tagger: Tagger, data: DataSet) -> tuple[LabelledClip, ...]:
    """Returns the clips of ``data`` whose classes the model does not know."""
    return tuple(clip for clip in data.clips if clip.label not in tagger.labels)


def evaluate_clips(
    tagger: Tagger,
    clips: Sequence[LabelledClip],
    *,
    on_clip: OnClip = lambda clip, problem: None,
    cache: ClipCache | None = None,
) -> Evaluation:
    """Classifies every window of ``clips`` and scores windows and videos.

    Clips of classes that the model does not know count only for the ``unknown`` scores. Raises DataSetError when none
    of the other clips can be read. For ``cache`` see ``classify_clips``.
    """
    return judge(classify_clips(tagger, clips, on_clip=on_clip, cache=cache))


def classify_clips(
    tagger: Tagger,
    clips: Sequence[LabelledClip],
    *,
    on_clip: OnClip = lambda clip, problem: None,
    cache: ClipCache | None = None,
) -> Predictions:
    """Classifies every window of ``clips``. Raises DataSetError when none of them can be read.

    Reads windows and features from ``cache`` as far as it has them, and adds features, or windows when the tagger is on
    a GPU. The result is the same as without a cache.
    """
    logits: list[np.ndarray] = []
    videos: list[int] = []
    read: list[LabelledClip] = []
    unreadable: list[tuple[LabelledClip, str]] = []
    for clip, of_clip, problem in _clip_logits(tagger, clips, cache):
        if of_clip is None:
            unreadable.append((clip, problem or "it has no frames"))
        else:
            logits.append(of_clip)
            videos += [len(read)] * len(of_clip)
            read.append(clip)
        on_clip(clip, problem)
    if not read:
        raise DataSetError("none of the clips could be read")
    return Predictions(
        labels=tuple(tagger.labels),
        temperature=tagger.source.info.temperature,
        clips=tuple(read),
        logits=np.concatenate(logits),
        videos=np.array(videos),
        unreadable=tuple(unreadable),
        ood=tagger.source.info.ood,
    )


def _clip_logits(
    tagger: Tagger, clips: Sequence[LabelledClip], cache: ClipCache | None
) -> Iterator[tuple[LabelledClip, np.ndarray | None, str | None]]:
    """Yields each clip with the logits ``[n, classes]`` of its windows, or None without any, and its error."""
    classifier, sampling, preprocessing = tagger.classifier, tagger.sampling, tagger.source.info.preprocessing
    if cache is None:
        for decoded in decode_clips(clips, sampling, preprocessing):
            logits = classifier.logits(decoded.windows) if len(decoded.windows) else None
            yield decoded.clip, logits, decoded.problem
    elif classifier.device.type == "cpu":
        for clip, features, problem in clip_arrays(clips, TaggerFeatures(sampling, preprocessing, classifier), cache):
            yield clip, classifier.logits_of(features) if len(features) else None, problem
    else:
        # Features on a GPU depend on the size of the batch.
        for clip, windows, problem in clip_arrays(clips, Windows(sampling, preprocessing), cache):
            yield clip, classifier.logits(np.array(windows)) if len(windows) else None, problem


def judge(predictions: Predictions) -> Evaluation:
    """Scores predictions without running a model. Raises DataSetError when the model knows the class of no clip."""
    others = [clip for clip in predictions.clips if clip.label not in predictions.labels]
    if others:
        known = predictions.of(set(predictions.clips).difference(others))
        if not known.clips:
            raise DataSetError("none of the clips of classes that the model knows could be read")
        unknown = predictions.of(others)
        scores = score_unknown(
            tuple(sorted({clip.label for clip in others})),
            WindowLogits(known.logits / predictions.temperature, known.videos),
            WindowLogits(unknown.logits / predictions.temperature, unknown.videos),
            predictions.ood,
        )
        return replace(judge(known), unknown=scores)
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
    """Returns the prediction for each clip, in the order of the clips."""
    probabilities = predictions.by_video(predictions.temperature)
    return [
        Verdict(clip, predictions.labels[row.argmax()], float(row.max()))
        for clip, row in zip(predictions.clips, probabilities, strict=True)
    ]


def worst_mistakes(predictions: Predictions, limit: int) -> list[Verdict]:
    """Returns the wrong predictions with the highest confidence, at most ``limit`` of them."""
    wrong = [verdict for verdict in verdicts(predictions) if not verdict.is_right]
    return sorted(wrong, key=lambda verdict: -verdict.confidence)[:limit]


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")

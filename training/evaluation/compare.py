"""Compares models on the same clips: scores, costs, and the significance of the differences."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binomtest, chi2

from tagger.errors import DataSetError, ModelFileError
from tagger.tagger import Tagger
from training.data.data_set import DataSet, LabelledClip
from training.evaluation.bootstrap import Interval, interval, resampled_sums
from training.evaluation.cost import Cost
from training.evaluation.evaluate import Evaluation, Predictions, clips_of_split, judge

EXACT_BELOW = 25
"""McNemar's test is exact with fewer videos than this on which only one of the two models is right."""


@dataclass(frozen=True)
class Contender:
    """One of the compared models: its name, scores and cost."""

    name: str
    evaluation: Evaluation
    cost: Cost


@dataclass(frozen=True)
class Contest:
    """Two models on the same videos: ``difference`` is the accuracy of the first minus that of the second.

    ``only_first`` and ``only_second`` count the videos on which only one of them is right. ``p`` is the probability of
    a difference at least as large if both were equally good (McNemar, 1947, https://doi.org/10.1007/BF02295996). It
    treats videos as independent. ``interval`` does not: it is that of the difference over resampled groups.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Models judged on the same clips, and each pair of them."""

    contenders: tuple[Contender, ...]
    contests: tuple[Contest, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready form."""
        return {
            "models": [
                {"name": each.name, "cost": asdict(each.cost), **each.evaluation.to_json()} for each in self.contenders
            ],
            "pairs": [asdict(contest) for contest in self.contests],
        }


def check_labels(models: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raises ModelFileError unless all models, given by name and labels, know the same classes."""
    (first, known), *others = models
    for name, labels in others:
        if set(labels) != set(known):
            differences = " and ".join(
                f"only {who} knows {', '.join(sorted(extra)[:3])}{', …' if len(extra) > 3 else ''}"
                for who, extra in ((first, set(known) - set(labels)), (name, set(labels) - set(known)))
                if extra
            )
            raise ModelFileError(
                f"{first} and {name} do not know the same classes and cannot be compared: {differences}"
            )


def clips_of_none(taggers: Sequence[Tagger], data: DataSet, split: str) -> tuple[LabelledClip, ...]:
    """Returns the clips of ``data`` that every model held out for ``split`` (``test`` or ``val``), or ``all``.

    Raises DataSetError when a model file does not have its groups, or when there is no such clip.
    """
    chosen = [set(clips_of_split(tagger, data, split)) for tagger in taggers]
    clips = tuple(clip for clip in data.clips if all(clip in clips for clips in chosen))
    if not clips:
        raise DataSetError(
            f"there is no clip in {data.root} that all models held out for {split}; train them on the same split, or "
            "use --split all"
        )
    return clips


def judge_together(predictions: Sequence[Predictions]) -> list[Evaluation]:
    """Scores the predictions of several models for the clips that all of them could read.

    Raises DataSetError when there are none.
    """
    common = set(predictions[0].clips).intersection(*(each.clips for each in predictions[1:]))
    if not common:
        raise DataSetError("there is no clip that all models could read")
    return [judge(each.of(common)) for each in predictions]


def compare_contenders(contenders: Sequence[Contender]) -> Comparison:
    """Compares models that ``judge_together`` has scored."""
    return Comparison(tuple(contenders), tuple(_contests(contenders)))


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the p-value of McNemar's test for the numbers of examples on which only one of two models is right.

    It is exact (binomial) for fewer than 25 such examples, else by chi-squared with the correction for continuity.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    if discordant < EXACT_BELOW:
        return float(binomtest(only_first, discordant, 0.5).pvalue)
    return float(chi2.sf(max(abs(only_first - only_second) - 1, 0) ** 2 / discordant, 1))


def _contests(contenders: Sequence[Contender]) -> Iterator[Contest]:
    for first, second in combinations(contenders, 2):
        predictions = first.evaluation.predictions
        right, other = _right(predictions), _right(second.evaluation.predictions)
        # The contributions of a video to the difference of the accuracies and to the number of videos.
        values = np.stack([right.astype(float) - other, np.ones(len(right))], axis=1)
        totals = np.concatenate([sums.sum(1) for sums in resampled_sums(values, predictions.truth, predictions.groups)])
        only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
        yield Contest(
            first=first.name,
            second=second.name,
            difference=(only_first - only_second) / len(right),
            interval=interval(totals[:, 0] / totals[:, 1]),
            only_first=only_first,
            only_second=only_second,
            p=mcnemar(only_first, only_second),
        )


def _right(predictions: Predictions) -> np.ndarray:
    """Returns ``[clips] bool``: whether each clip was classified correctly."""
    return predictions.by_video(predictions.temperature).argmax(1) == predictions.truth

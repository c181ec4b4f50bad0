"""Scores agree with a calculation by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from tests.training.synthetic import class_names, predictions
from training.evaluation.bootstrap import RESAMPLES, interval, resampled_sums
from training.evaluation.calibration import fit_temperature, reliability
from training.evaluation.evaluate import judge
from training.evaluation.metrics import Scores, average_by_video, most_confused, score


def scores_of(truth: list[int], predicted: list[int], labels: list[str], groups: list[int] | None = None) -> Scores:
    """Scores predictions with a probability of 1."""
    probabilities = np.eye(len(labels))[predicted]
    return score(np.array(truth), probabilities, labels, np.array(groups or range(len(truth))))


def test_scores_are_those_of_the_textbook() -> None:
    # a: 2 of 3 examples are right, the third is predicted as b. b: its only example is right. c: never predicted.
    scores = scores_of([0, 0, 0, 1, 2], [0, 0, 1, 1, 1], ["a", "b", "c"])
    assert scores.confusion == ((2, 1, 0), (0, 1, 0), (0, 1, 0))
    assert scores.accuracy == pytest.approx(3 / 5)
    assert [row.precision for row in scores.classes] == pytest.approx([1, 1 / 3, 0])
    assert [row.recall for row in scores.classes] == pytest.approx([2 / 3, 1, 0])
    assert [row.f1 for row in scores.classes] == pytest.approx([0.8, 0.5, 0])
    assert [row.support for row in scores.classes] == [3, 1, 1]
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((4 / 9, 5 / 9, 1.3 / 3))
    weighted = (scores.weighted_precision, scores.weighted_recall, scores.weighted_f1)
    assert weighted == pytest.approx(((3 + 1 / 3) / 5, 3 / 5, (2.4 + 0.5) / 5))
    assert most_confused(scores, 1) == [("a", "b", 1)]


def test_a_class_without_examples_does_not_lower_the_averages() -> None:
    scores = scores_of([0, 0, 1], [0, 0, 1], ["a", "b", "absent"])
    assert (scores.precision, scores.recall, scores.f1) == (1, 1, 1)
    assert scores.classes[2].support == 0


def test_top_5_accuracy_counts_the_five_most_probable_classes_and_is_none_with_five_classes() -> None:
    ranks = np.array([[6, 5, 4, 3, 2, 1, 0]]) / 21
    groups = np.array([0])
    top5 = [score(np.array([truth]), ranks, "abcdefg", groups).top5 for truth in range(7)]
    assert top5 == [1, 1, 1, 1, 1, 0, 0]
    few = score(np.array([0]), ranks[:, :5], "abcde", groups)
    assert few.top5 is None and "top5" not in few.intervals


def test_intervals_agree_with_scoring_each_bootstrap_draw() -> None:
    """The fast calculation from sums agrees with scikit-learn, which scores the clips of each draw."""
    made = predictions(class_names(4), margin=1.5)
    truth, groups = made.truth, made.groups
    scores = judge(made).videos
    predicted = made.by_video(made.temperature).argmax(1)
    # How often each clip was drawn: each clip has a 1 in its own column.
    times = np.concatenate([sums.sum(1) for sums in resampled_sums(np.eye(len(truth)), truth, groups)])
    assert times.shape == (RESAMPLES, len(truth))

    def drawn(measure: Callable[[np.ndarray], float]) -> list[float]:
        return [measure(weights) for weights in times]

    accuracy = drawn(lambda weights: np.average(predicted == truth, weights=weights))
    assert scores.intervals["accuracy"] == pytest.approx(interval(np.array(accuracy)))

    def sklearn(weights: np.ndarray, average: str | None) -> tuple[np.ndarray, ...]:
        return precision_recall_fscore_support(
            truth, predicted, average=average, sample_weight=weights, zero_division=0
        )

    macro_f1 = drawn(lambda weights: float(sklearn(weights, "macro")[2]))
    assert scores.intervals["f1"] == pytest.approx(interval(np.array(macro_f1)))
    weighted = drawn(lambda weights: float(sklearn(weights, "weighted")[0]))
    assert scores.intervals["weighted_precision"] == pytest.approx(interval(np.array(weighted)))
    of_first = drawn(lambda weights: float(sklearn(weights, None)[0][0]))
    assert scores.classes[0].intervals["precision"] == pytest.approx(interval(np.array(of_first)))


def test_every_draw_has_the_same_number_of_groups_of_each_class_and_keeps_groups_together() -> None:
    truth, groups = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 3, 3])
    times = np.concatenate([sums.sum(1) for sums in resampled_sums(np.eye(7), truth, groups)])
    assert (times[:, 0] == times[:, 1]).all() and (times[:, 4] == times[:, 6]).all()
    assert (times[:, 0] + times[:, 2] == 2).all() and (times[:, 3] + times[:, 4] == 2).all()
    assert set(times[:, 0]) == {0, 1, 2}


def test_clips_that_are_right_or_wrong_together_make_the_interval_wider() -> None:
    truth, predicted = [0] * 20 + [1] * 20, ([0] * 10 + [1] * 10) * 2
    alone = scores_of(truth, predicted, ["a", "b"]).intervals["accuracy"]
    together = scores_of(truth, predicted, ["a", "b"], [i // 5 for i in range(40)]).intervals["accuracy"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
    assert alone[0] < 0.5 < alone[1]


def test_a_class_of_one_group_has_no_interval() -> None:
    scores = scores_of([0, 0, 1, 1], [0, 1, 1, 1], ["a", "b"], [0, 0, 1, 2])
    assert scores.classes[0].intervals == {}
    assert set(scores.classes[1].intervals) == {"precision", "recall", "f1"}


def test_a_video_is_the_average_of_its_windows() -> None:
    videos, averaged = average_by_video(np.array([[1.0, 0.0], [0.2, 0.8], [0.6, 0.4]]), np.array([7, 3, 7]))
    assert videos.tolist() == [3, 7]
    assert averaged == pytest.approx(np.array([[0.2, 0.8], [0.8, 0.2]]))


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy_by_bins() -> None:
    # Three with confidence 0.9, two of them right; one with 0.6, right; one with 1.0, which is in the last bin.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [1.0, 0.0]])
    measured = reliability(np.array([0, 0, 0, 0, 0]), probabilities)
    assert measured.error == pytest.approx((3 * abs(0.9 - 2 / 3) + abs(0.6 - 1) + 0) / 5)
    assert sum(bin.examples for bin in measured.bins) == 5
    assert measured.bins[-1].examples == 1


def test_the_temperature_undoes_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 5, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest, labels) == pytest.approx(1, rel=0.1)
    assert fit_temperature(honest * 3, labels) == pytest.approx(3, rel=0.1)
    before, after = (reliability(labels.numpy(), (honest * 3 / t).softmax(1).numpy()).error for t in (1, 3))
    assert after < 0.03 < 0.1 < before


def test_the_temperature_is_bounded_when_all_predictions_are_right() -> None:
    temperature = fit_temperature(torch.eye(4) * 10, torch.arange(4))
    assert math.isfinite(temperature) and temperature >= 0.05

"""Models are compared on the same clips, with their costs and a significance test of the difference."""

from dataclasses import replace

import numpy as np
import pytest

from tagger import ModelFileError, ModelInfo, Sampling
from tagger.classifier import Classifier
from tagger.models.registry import ARCHITECTURES, build_network
from tests.training.synthetic import class_names, predictions
from training.evaluation.compare import Contender, check_labels, compare_contenders, judge_together, mcnemar
from training.evaluation.cost import Cost, count_parameters
from training.evaluation.evaluate import Predictions, judge
from training.report.tables import comparison_table, contest_table

COST = Cost(1_500_000, 12.17, 2_900_000, 14.2, "cpu", "bfloat16")


def contender(name: str, made: Predictions) -> Contender:
    return Contender(name, judge(made), COST)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (4, 4, 1.0),
        (0, 6, 2 / 2**6),
        (1, 9, 2 * (1 + 10) / 2**10),
        # Exact until 24, then chi-squared with the correction: (|20 - 5| - 1)² / 25 = 7.84.
        (5, 19, 0.0066),
        (20, 5, 0.0051),
        (13, 13, 1.0),
    ],
)
def test_mcnemar_agrees_with_the_textbook(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p, abs=5e-5)
    assert mcnemar(only_second, only_first) == pytest.approx(mcnemar(only_first, only_second))


def test_a_model_is_as_good_as_itself() -> None:
    made = predictions(class_names(5), margin=1)
    (contest,) = compare_contenders([contender("one", made), contender("same", made)]).contests
    assert (contest.difference, contest.interval, contest.p) == (0, (0, 0), 1)


def test_each_pair_is_tested_on_the_videos_that_only_one_of_them_gets_right() -> None:
    good, bad = predictions(class_names(5), margin=3), predictions(class_names(5), margin=0.5)
    comparison = compare_contenders([contender("good", good), contender("bad", bad), contender("good too", good)])
    assert [(contest.first, contest.second) for contest in comparison.contests] == [
        ("good", "bad"),
        ("good", "good too"),
        ("bad", "good too"),
    ]
    contest = comparison.contests[0]
    right, other = (made.by_video(0.5).argmax(1) == made.truth for made in (good, bad))
    assert (contest.only_first, contest.only_second) == (sum(right & ~other), sum(other & ~right))
    assert contest.difference == pytest.approx(np.mean(right) - np.mean(other))
    assert contest.interval[0] < contest.difference < contest.interval[1]
    assert contest.p < 0.001
    assert [row[-2:] for row in contest_table(comparison).rows] == [
        ("< 0.001", "significant at 5 %"),
        ("1.000", "could be chance"),
        ("< 0.001", "significant at 5 %"),
    ]


def test_models_may_list_their_classes_in_another_order() -> None:
    made = predictions(class_names(5), margin=1)
    turned = replace(made, labels=made.labels[::-1], logits=made.logits[:, ::-1])
    (contest,) = compare_contenders([contender("one", made), contender("turned", turned)]).contests
    assert (contest.only_first, contest.only_second) == (0, 0)


def test_a_clip_that_one_model_could_not_read_counts_for_no_model() -> None:
    made = predictions(class_names(3))
    less = made.of(set(made.clips[1:]))
    assert [evaluation.videos.examples for evaluation in judge_together([made, less])] == [len(made.clips) - 1] * 2


def test_models_of_different_classes_are_refused_with_the_difference() -> None:
    with pytest.raises(
        ModelFileError, match=r"a and b do not know the same classes.*only a knows y and only b knows z"
    ):
        check_labels([("a", ["x", "y"]), ("b", ["z", "x"])])


def test_the_table_has_scores_and_costs_of_each_model() -> None:
    made = predictions(class_names(5), margin=1)
    table = comparison_table(compare_contenders([contender("one", made), contender("two", made)]))
    assert table.columns == ("", "one", "two")
    rows = {row[0]: row[1] for row in table.rows}
    scores = judge(made).videos
    low, high = scores.intervals["accuracy"]
    assert rows["accuracy"] == f"{scores.accuracy:.3f} ({low:.2f}–{high:.2f})"
    assert rows["F1, macro"].startswith(f"{scores.f1:.3f}")
    assert rows["parameters"] == "1.50 M"
    assert rows["GFLOP per window"] == "12.2"
    assert rows["model file"] == "2.9 MB"
    assert rows["windows/s here"] == "14.2 (bfloat16, cpu)"


def operations(info: ModelInfo) -> int:
    network = build_network(info.architecture, len(info.labels), dict(info.options))
    return Classifier(network, info.preprocessing, device="cpu").operations(info.sampling.num_frames)


def test_operations_and_parameters_are_those_counted_by_hand() -> None:
    preprocessing = replace(ARCHITECTURES["cnn3d-lstm"].preprocessing, size=32, resize=32)
    info = ModelInfo("cnn3d-lstm", ("a", "b"), Sampling(), preprocessing, options={"head": "mean"})
    # Three 3×3×3 convolutions over 16 frames, each with half the width and height of the one before, and a dense layer.
    kernels = [(32 * 32, 3 * 27 * 32), (16 * 16, 32 * 27 * 64), (8 * 8, 64 * 27 * 128)]
    dense = 128 * 16 * 2
    assert operations(info) == 2 * (sum(16 * places * kernel for places, kernel in kernels) + dense)
    norms = 2 * (32 + 64 + 128)
    assert count_parameters(info) == sum(kernel for _, kernel in kernels) + norms + dense + 2


def test_the_operations_inside_an_lstm_are_counted() -> None:
    preprocessing = replace(ARCHITECTURES["cnn3d-lstm"].preprocessing, size=32, resize=32)
    info = ModelInfo("cnn3d-lstm", ("a", "b"), Sampling(), preprocessing, options={"head": "mean"})
    added = operations(replace(info, options={"head": "lstm"})) - operations(info)
    # Four gates of 128, from 2048 features and the 128 outputs of the step before, in 16 steps. The dense layer takes
    # 128 features of the LSTM.
    assert added == 2 * (16 * 4 * 128 * (2048 + 128) + 128 * 2)

"""A taught head finds a new class, keeps its old answers, and believes what marks deny."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from training.teaching import lesson
from training.teaching.lesson import DEFAULT_PULL, Lesson, Marked, Unmarked, folds_of, start_head, teach
from training.teaching.mark_scores import MarkScores, scores_of
from training.teaching.objective import RESERVE, Head, Rows, fit, loss_of

D = 6
"""Values of a segment. Class ``c`` lies at 3 on axis ``c``."""

OLD = 3


def some_values(classes: list[int], seed: int = 0) -> np.ndarray:
    """Values around the centres of ``classes``, ``[n, D]``."""
    random = np.random.default_rng(seed)
    return 3 * np.eye(D)[classes] + 0.3 * random.standard_normal((len(classes), D))


def an_old_head() -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a head that knows the classes 0, 1 and 2."""
    return 2 * np.eye(OLD, D), np.array([0.5, 0.0, -0.5])


def marks_of(labels: list[int], videos: list[int], classes: int, denied: list[int | None] | None = None) -> Marked:
    """Marks of segments at the centres of ``labels``; those with a ``denied`` class only say that they do not show it.

    A label in ``denied`` turns the mark into a denial.
    """
    denied = denied or [None] * len(labels)
    matrix = np.zeros((len(labels), classes), bool)
    for row, label in enumerate(denied):
        if label is not None:
            matrix[row, label] = True
    shown = [-1 if no is not None else label for label, no in zip(labels, denied, strict=True)]
    return Marked(some_values(labels, seed=1), np.array(shown), matrix, np.array(videos))


UNMARKED = Unmarked(some_values([0, 1, 2] * 40 + [3] * 6, seed=2), np.repeat(np.arange(100, 121), 6))
"""Unmarked segments of the old classes, and a few of a class that is new."""


def probabilities(head: Head, values: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    powers = np.exp(head.logits(values) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def learn(marked: Marked, new: int = 1, unmarked: Unmarked = UNMARKED) -> tuple[Head, Lesson]:
    start = start_head(*an_old_head(), 1.0, new)
    return start, teach(start, OLD, marked, unmarked)


def test_a_new_class_is_found_and_old_answers_stay() -> None:
    start, found = learn(marks_of([3] * 6, [0, 0, 1, 1, 2, 2], 4))
    seen = some_values([0, 1, 2, 3] * 10, seed=3)
    answers = probabilities(found.head, seen, found.temperature)
    np.testing.assert_array_equal(answers.argmax(axis=1), [0, 1, 2, 3] * 10)
    before = probabilities(Head(start.weight[:OLD], start.bias[:OLD]), seen)
    is_old = np.arange(40) % 4 != 3
    assert np.abs(answers[is_old, :OLD] - before[is_old]).max() < 0.12
    assert answers[~is_old, 3].min() > 0.5
    # The old head answers with one of its classes.
    assert before[~is_old].max(axis=1).min() > 1 / OLD


def test_the_unmarked_segments_of_a_new_class_do_not_hide_it() -> None:
    many = Unmarked(np.vstack([UNMARKED.values, some_values([3] * 120, seed=5)]), np.arange(246) + 100)
    _, found = learn(marks_of([3] * 6, [0, 0, 1, 1, 2, 2], 4), unmarked=many)
    answers = probabilities(found.head, some_values([3] * 10, seed=3), found.temperature)
    assert answers[:, 3].min() > 0.5


def test_a_denial_lowers_a_label_old_or_new() -> None:
    seen = some_values([0] * 5, seed=4)
    start, found = learn(marks_of([0] * 4, [0, 1, 2, 3], OLD, denied=[0] * 4), new=0)
    assert probabilities(found.head, seen)[:, 0].max() < probabilities(start, seen)[:, 0].min()
    # The new class lies beside class 0, which gets its label until marks deny it.
    beside = marks_of([3] * 4, [0, 1, 2, 3], 4)
    beside.values[:, 0] += 2
    near = some_values([0] * 5, seed=4)
    near[:, 3] += 1.5
    _, without = learn(beside)
    denials = Marked(
        np.vstack([beside.values, near]),
        np.append(beside.label, [-1] * 5),
        np.vstack([beside.denied, np.eye(4, dtype=bool)[[3] * 5]]),
        np.append(beside.video, np.arange(5) + 10),
    )
    _, with_denials = learn(denials)
    assert probabilities(with_denials.head, near)[:, 3].max() < probabilities(without.head, near)[:, 3].min()
    assert probabilities(with_denials.head, beside.values)[:, 3].min() > 0.5


def test_a_segment_that_shows_none_of_the_old_labels_shows_a_new_one() -> None:
    marked = marks_of([3] * 3 + [4], [0, 1, 2, 3], 5)
    marked.denied[3, :OLD] = True
    marked.denied[3, 3] = True
    marked.label[3] = -1
    _, found = learn(marked, new=2)
    assert probabilities(found.head, marked.values)[3].argmax() == 4


def test_marks_correct_an_old_label() -> None:
    # What lies between the classes 0 and 1 is class 1.
    marked = marks_of([0] * 6, list(range(6)), OLD)
    marked.values[:, 1] += 2.5
    marked.label[:] = 1
    start, found = learn(marked, new=0)
    between = some_values([0] * 10, seed=7) + 2.5 * np.eye(D)[1]
    assert (probabilities(start, between).argmax(axis=1) == 0).mean() > 0.5
    assert (probabilities(found.head, between).argmax(axis=1) == 1).mean() > 0.9


def test_the_same_marks_give_the_same_head() -> None:
    marked = marks_of([3] * 6, [0, 0, 1, 1, 2, 2], 4)
    (_, first), (_, second) = learn(marked), learn(marked)
    np.testing.assert_array_equal(first.head.weight, second.head.weight)
    assert (first.pull, first.temperature) == (second.pull, second.temperature)


def test_marks_in_one_video_are_not_cross_validated() -> None:
    _, found = learn(marks_of([3] * 4, [0] * 4, 4))
    assert np.isnan(found.held_out).all() and (found.pull, found.temperature) == (DEFAULT_PULL, 1.0)


def test_without_unmarked_segments_the_head_is_finite() -> None:
    nothing = Unmarked(np.empty((0, D)), np.empty(0, int))
    _, found = learn(marks_of([3] * 4, [0, 1, 2, 3], 4), unmarked=nothing)
    assert np.isfinite(found.head.weight).all() and np.isfinite(found.head.bias).all()


def test_two_labels_that_marks_mix_up_get_lower_confidences() -> None:
    labels, videos = [3, 4] * 6, list(range(12))
    apart, mixed = marks_of(labels, videos, 5), marks_of([3] * 12, videos, 5)
    mixed.label[:] = labels
    confidence = [
        probabilities(found.head, some_values([3] * 5, seed=3), found.temperature).max()
        for _, found in (learn(marks, new=2) for marks in (apart, mixed))
    ]
    assert confidence[0] > confidence[1] + 0.1


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 9)), min_size=1, max_size=40))
def test_a_video_is_in_one_part_and_each_label_in_two_or_none(pairs: list[tuple[int, int]]) -> None:
    label, video = (np.array(column) for column in zip(*pairs, strict=True))
    denied = np.zeros((len(pairs), 5), bool)
    fold = folds_of(Marked(np.zeros((len(pairs), 1)), label, denied, video), Unmarked(np.zeros((9, 1)), np.arange(9)))
    assert len(fold) == len(pairs) + 9 and (fold[len(pairs) :] >= 0).all() and fold.max() < lesson.FOLDS
    of_mark = fold[: len(pairs)]
    for number in set(video.tolist()):
        assert len(set(of_mark[(video == number) & (of_mark >= 0)].tolist())) <= 1
    for number in set(label.tolist()):
        parts = set(of_mark[label == number].tolist())
        assert parts == {-1} or (len(parts) > 1 and -1 not in parts)


def test_two_videos_of_a_label_are_in_two_parts() -> None:
    for labels in ([3, 3], [3, 3, 4, 4], [3, 4, 3, 4, 5, 5, 5]):
        videos = list(range(len(labels)))
        fold = folds_of(marks_of(labels, videos, 6), UNMARKED)
        assert (fold >= 0).all()


def test_labels_have_the_same_weight_and_so_have_the_videos_of_a_label() -> None:
    groups = np.array([[0, 0], [0, 0], [0, 0], [1, 0], [0, 1]])
    weights = lesson._balanced(groups, np.array([7, 7, 8, 7, 9]))
    np.testing.assert_allclose(weights, [0.25, 0.25, 0.5, 1, 1])


def test_the_fit_is_a_logistic_regression_where_rows_speak_about_all_labels() -> None:
    random = np.random.default_rng(0)
    values, label, weight = some_values([0, 1, 2, 3] * 5), np.array([0, 1, 2, 3] * 5), random.uniform(0.5, 2, 20)
    label[:3] = [1, 2, 3]
    rows = Rows(values, np.eye(4)[label], np.ones((20, 4), bool), weight)
    found = fit(Head(np.zeros((4, D)), np.zeros(4)), rows, 0.3)
    # The bias is a weight of a constant, which is regularised as the others.
    reference = LogisticRegression(C=1 / 0.6, fit_intercept=False, tol=1e-10, max_iter=10_000)
    reference.fit(np.column_stack([values, np.ones(20)]), label, weight)
    np.testing.assert_allclose(np.column_stack([found.weight, found.bias]), reference.coef_, atol=1e-4)


def test_the_loss_is_that_of_the_labels_a_row_speaks_about_and_a_little_of_all() -> None:
    random = np.random.default_rng(0)
    logits, wanted = random.standard_normal((7, 4)), random.dirichlet(np.ones(3), 7)
    wanted = np.column_stack([wanted, np.zeros(7)])
    spoken = np.ones((7, 4), bool)
    spoken[2:, 3] = False
    weight = random.uniform(0, 1, 7)
    expected = 0.0
    for row in range(7):
        among = np.log(sum(np.exp(logits[row, label]) for label in range(4) if spoken[row, label]))
        everything = np.log(sum(np.exp(logits[row])))
        for label in range(4):
            reserved = (1 - RESERVE) * (among - logits[row, label]) + RESERVE * (everything - logits[row, label])
            expected += weight[row] * wanted[row, label] * reserved
    rows = Rows(np.zeros((7, 1)), wanted, spoken, weight)
    assert loss_of(logits, rows) == pytest.approx(expected)


def test_no_head_nearby_has_a_smaller_loss() -> None:
    start = start_head(*an_old_head(), 1.0, 1)
    values = some_values([0, 1, 2, 3] * 4)
    spoken = np.ones((16, 4), bool)
    spoken[4:, 3] = False
    rows = Rows(values, np.eye(4)[[0, 1, 2, 0] * 4], spoken, np.ones(16))
    found = fit(start, rows, 0.1)

    def total(head: Head) -> float:
        change = np.column_stack([head.weight - start.weight, head.bias - start.bias])
        return loss_of(head.logits(values), rows) + 0.1 * float((change**2).sum())

    random, least = np.random.default_rng(0), total(found)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(20):
            step = size * random.standard_normal((4, D + 1))
            assert total(Head(found.weight + step[:, :-1], found.bias + step[:, -1])) > least


def test_a_start_head_answers_as_the_old_one_and_has_no_opinion_on_new_labels() -> None:
    weight, bias = an_old_head()
    head = start_head(weight, bias, 2.0, 2)
    seen = some_values([0, 1, 2, 3, 4])
    expected = probabilities(Head(weight, bias), seen, 2.0)
    found = probabilities(head, seen)
    np.testing.assert_allclose(found[:, :OLD] / found[:, :OLD].sum(axis=1, keepdims=True), expected)
    np.testing.assert_array_equal(head.logits(seen)[:, OLD:], 0)


def lesson_with(answers: list[int | None]) -> Lesson:
    held_out = np.array([[np.nan] * 3 if answer is None else np.eye(3)[answer] for answer in answers])
    return Lesson(Head(np.zeros((3, 1)), np.zeros(3)), 1.0, 1.0, held_out)


def test_scores_count_each_video_the_same() -> None:
    # Label 2: two segments of video 0, one of them found, and one of video 1, found. One of label 1 is taken for it.
    marked = Marked(
        np.zeros((6, 1)), np.array([2, 2, 2, 1, 1, -1]), np.zeros((6, 3), bool), np.array([0, 0, 1, 2, 3, 4])
    )
    found = lesson_with([2, 0, 2, 2, 1, 2])
    assert scores_of(2, found, marked) == MarkScores(0.75, pytest.approx(1.5 / 2.5))
    marked.denied[5, 2] = True
    assert scores_of(2, found, marked).precision == pytest.approx(1.5 / 3.5)
    assert scores_of(1, found, marked) == MarkScores(0.5, 1.0)
    assert scores_of(0, found, marked) == MarkScores(None, None)


def test_what_was_not_left_out_has_no_scores() -> None:
    marked = Marked(np.zeros((2, 1)), np.array([2, 2]), np.zeros((2, 3), bool), np.array([0, 0]))
    assert scores_of(2, lesson_with([None, None]), marked) == MarkScores(None, None)
    # Without other marks nothing could be mistaken for the label.
    assert scores_of(2, lesson_with([2, 0]), marked) == MarkScores(0.5, None)

"""Scores agree with a calculation by hand."""

import math

import numpy as np
import pytest
import torch

from training.calibration import fit_temperature
from training.metrics import average_by_video, score


def test_scores_are_those_of_the_textbook() -> None:
    # a: 2 of 3 found, one of them taken for b; b: found once, never missed; c: never predicted.
    scores = score(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 1]), ["a", "b", "c"])
    assert scores.confusion == ((2, 1, 0), (0, 1, 0), (0, 1, 0))
    assert scores.accuracy == pytest.approx(3 / 5)
    assert [row.precision for row in scores.classes] == pytest.approx([1, 1 / 3, 0])
    assert [row.recall for row in scores.classes] == pytest.approx([2 / 3, 1, 0])
    assert [row.f1 for row in scores.classes] == pytest.approx([0.8, 0.5, 0])
    assert [row.support for row in scores.classes] == [3, 1, 1]
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((4 / 9, 5 / 9, 1.3 / 3))


def test_a_video_is_the_average_of_its_windows() -> None:
    videos, averaged = average_by_video(np.array([[1.0, 0.0], [0.2, 0.8], [0.6, 0.4]]), np.array([7, 3, 7]))
    assert videos.tolist() == [3, 7]
    assert averaged == pytest.approx(np.array([[0.2, 0.8], [0.8, 0.2]]))


def test_the_temperature_undoes_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 5, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest, labels) == pytest.approx(1, rel=0.1)
    assert fit_temperature(honest * 3, labels) == pytest.approx(3, rel=0.1)


def test_the_temperature_stays_sane_when_nothing_is_ever_wrong() -> None:
    temperature = fit_temperature(torch.eye(4) * 10, torch.arange(4))
    assert math.isfinite(temperature) and temperature >= 0.05

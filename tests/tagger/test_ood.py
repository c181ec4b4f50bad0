"""Tests of the out-of-distribution scores."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.ood import MAX_ENERGIES, OODCalibration, energies_of


def logits(count: int, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(count).normal(0, scale, (count, 6)).astype(np.float32)


def test_the_energy_is_low_where_a_class_fits() -> None:
    fits, between, nothing = energies_of(np.array([[9, 0, 0], [5, 5, 0], [0, 0, 0]], np.float32))
    assert fits < between < nothing
    assert nothing == pytest.approx(-np.log(3))


def test_logits_may_be_large() -> None:
    np.testing.assert_allclose(energies_of(np.array([[1e4, 0], [-1e4, -1e4]], np.float32)), [-5e3, -np.log(2)])


def test_a_constant_added_to_all_logits_does_not_change_the_energy() -> None:
    some = logits(20)
    np.testing.assert_allclose(energies_of(some + np.float32(7)), energies_of(some), atol=1e-5)


def test_a_score_is_the_share_of_validation_windows_with_a_lower_energy() -> None:
    known, seen = logits(40), logits(25)
    scores = OODCalibration.fit(known).score(seen)
    expected = [(energies_of(known) < energy).mean() for energy in energies_of(seen)]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_score_is_0_for_a_very_low_energy_and_1_for_a_very_high_one() -> None:
    calibration = OODCalibration.fit(logits(40))
    clear, strange = np.eye(6, dtype=np.float32)[:1] * 100, np.full((1, 6), -100, np.float32)
    assert calibration.score(clear) == [0]
    assert calibration.score(strange) == [1]


def test_many_energies_are_reduced_to_quantiles_with_nearly_the_same_scores() -> None:
    known, seen = logits(20_000), logits(500)
    calibration = OODCalibration.fit(known)
    assert len(calibration.energies) == MAX_ENERGIES
    exact = (energies_of(known)[None] < energies_of(seen)[:, None]).mean(1)
    assert np.abs(calibration.score(seen) - exact).max() < 2 / MAX_ENERGIES


@given(count=st.integers(1, 50), scale=st.floats(0.01, 1000))
def test_a_calibration_comes_back_from_json(count: int, scale: float) -> None:
    calibration = OODCalibration.fit(logits(count, scale))
    assert OODCalibration.from_json(json.loads(json.dumps(asdict(calibration)))) == calibration

"""Float16 numbers become the same float32 numbers as by NumPy."""

import numpy as np

from tagger.models.embeddings.half import to_float32


def test_every_finite_float16_number_becomes_the_same_float32_number() -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    numbers = numbers[np.isfinite(numbers)]
    found = to_float32(numbers)
    assert found.dtype == np.float32 and len(found) == (1 << 16) - (1 << 11)
    np.testing.assert_array_equal(found.view(np.uint32), numbers.astype(np.float32).view(np.uint32))


def test_the_numbers_that_are_given_stay_as_they_are() -> None:
    numbers = np.array([[0.5, -2.0], [0.0, 1e-7]], np.float16)
    before = numbers.copy()
    np.testing.assert_array_equal(to_float32(numbers[1:]), before[1:].astype(np.float32))
    np.testing.assert_array_equal(numbers, before)

"""Columns of integers, packed for a page."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.browse.report.packed_columns import Column, pack, unpack

VALUES = st.lists(st.integers(-(2**40), 2**40), max_size=30)


@given(VALUES, VALUES, st.booleans())
def test_values_come_back_as_they_were(first: list[int], second: list[int], delta: bool) -> None:
    columns = [Column("first", np.array(first, np.int64), delta), Column("second", np.array(second, np.int64))]
    facts, found = unpack(pack({"names": ["</script>", "é\n\udcff"]}, columns))
    assert facts == {"names": ["</script>", "é\n\udcff"]}
    assert {name: values.tolist() for name, values in found.items()} == {"first": first, "second": second}


def test_times_of_windows_side_by_side_take_almost_no_room() -> None:
    starts = np.tile(np.arange(0, 2_133 * 1000, 2_133), 100)
    assert len(pack({}, [Column("start_ms", starts, delta=True)])) < 5_000


def test_a_range_that_a_browser_cannot_hold_is_refused() -> None:
    with pytest.raises(OverflowError, match="size need 7 bytes; 6 at most"):
        pack({}, [Column("size", np.array([0, 2**50]))])

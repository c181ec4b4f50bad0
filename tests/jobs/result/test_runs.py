"""Names are found in sorted runs of names, however the runs are divided into ranges."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.result.compare import runs
from jobs.result.compare.runs import find_names, repeated_names

# Characters of one to four bytes: names are compared by their bytes.
NAMES = st.sets(st.text("ab/é日🎬", min_size=1, max_size=3), max_size=20)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=NAMES, found_in=st.lists(NAMES, max_size=5), sample=st.integers(1, 4))
def test_a_name_is_found_in_the_last_run_that_has_it(
    wanted: set[str], found_in: list[set[str]], sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SAMPLE_NAMES", sample)
    monkeypatch.setattr(runs, "RANGE_SAMPLES", 2)
    columns = [pa.array(sorted(names), pa.string()) for names in found_in]
    rows = [name for column in columns for name in column.to_pylist()]
    last = {name: row for row, name in enumerate(rows)}
    names = sorted(wanted)
    assert find_names(pa.array(names, pa.large_string()), columns).tolist() == [last.get(name, -1) for name in names]
    expected = [last[name] != row for row, name in enumerate(rows)]
    assert repeated_names(columns).tolist() == expected


def test_no_names_are_found_in_no_runs() -> None:
    nothing = pa.array([], pa.string())
    assert find_names(nothing, []).tolist() == []
    assert find_names(pa.array(["a"]), [nothing]).tolist() == [-1]
    assert np.array_equal(repeated_names([]), np.empty(0, bool))

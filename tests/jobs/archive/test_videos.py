import os

import numpy as np
import pytest

from jobs.archive import videos as module
from jobs.archive.video import Video
from jobs.archive.videos import Videos

A, B, ODD = Video("/v/a.mp4", 1, 2), Video("/v/b.mp4", 3, 4), Video(os.fsdecode(b"/v/caf\xe9.mp4"), 5, 6)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_videos_are_sorted_by_name_and_each_is_there_once(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    found = Videos.of([B, ODD, A, B, A])
    # The name of a file that is no text is an address.
    assert list(found) == [A, B, ODD]
    assert found.names.to_pylist() == ["/v/a.mp4", "/v/b.mp4", "file:///v/caf%E9.mp4"]
    assert (found.sizes.tolist(), found.mtimes_ns.tolist()) == ([1, 3, 5], [2, 4, 6])


def test_videos_are_a_sequence() -> None:
    found = Videos.of([A, B, ODD])
    assert (len(found), found[1], found[-1], list(found[1:]), list(found[::-2])) == (3, B, ODD, [B, ODD], [ODD, A])
    assert (A in found, bool(Videos()), list(Videos())) == (True, False, [])
    with pytest.raises(IndexError):
        found[3]


def test_videos_are_chosen_and_joined() -> None:
    found = Videos.of([A, B, ODD])
    others = found.filter(np.array([True, False, True]))
    assert list(others) == [A, ODD]
    assert others.joined(Videos.of([B])) == found
    assert others != found


def test_videos_have_ranges() -> None:
    ranges = {"/v/a.mp4": ((0.0, 1.0),), "/v/b.mp4": ((2.0, 3.0), (4.0, 5.0))}
    found = Videos.of([A, B]).with_ranges(ranges)
    assert [video.only for video in found] == list(ranges.values())
    assert found[1].only == found.filter(np.array([False, True]))[0].only == ((2.0, 3.0), (4.0, 5.0))
    assert found != Videos.of([A, B])

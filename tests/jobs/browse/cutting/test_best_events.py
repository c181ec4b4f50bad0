"""The events that ``vtag cut --label`` cuts."""

from pathlib import Path

import pytest

from jobs.browse.cutting.best_events import best_events
from jobs.browse.segments import open_result
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import publish_to


def test_the_best_events_of_each_label_are_cut(tmp_path: Path) -> None:
    low, high, other = {"Biking": 0.5, "Swing": 0.2}, {"Biking": 0.9, "Swing": 0.1}, {"Swing": 0.7, "Biking": 0.3}
    publish_to(
        tmp_path / "tags",
        [make_video("/v/a.mp4", [low, high, other, low]), make_video("/v/b.mp4", [other, other, high, high])],
    )
    publish_to(tmp_path / "tags", [make_video("/v/c.mp4", [low])])
    found = best_events(open_result(str(tmp_path / "tags")), ["Swing", "Biking"], 0.0, 3)
    assert [(m.label, m.video, m.start_s, m.end_s) for m in found] == [
        ("Swing", "/v/a.mp4", 4.0, 6.0),
        ("Swing", "/v/b.mp4", 0.0, 4.0),
        ("Biking", "/v/a.mp4", 0.0, 4.0),
        ("Biking", "/v/b.mp4", 4.0, 8.0),
        ("Biking", "/v/a.mp4", 6.0, 8.0),
    ]
    assert [m.confidence for m in found] == pytest.approx([0.7, 0.7, 0.9, 0.9, 0.5])
    assert len(best_events(open_result(str(tmp_path / "tags")), ["Biking"], 0.6, 3)) == 2

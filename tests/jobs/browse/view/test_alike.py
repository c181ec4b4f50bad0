"""What looks like a segment of a page."""

from pathlib import Path

import numpy as np
import pytest

from jobs.browse.report.gather import gather
from jobs.browse.segments import open_result
from jobs.browse.view.alike import rows_alike
from tagger.errors import OutputError
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.result.finished import EMBEDDED, publish_to

BIKING = {"Biking": 0.9}

FIRST, NEAR, FAR = np.eye(8)[0], np.eye(8)[0] + 0.5 * np.eye(8)[1], np.eye(8)[2]


def test_the_most_similar_segment_of_each_other_video_is_found(tmp_path: Path) -> None:
    vectors = {"/v/a.mp4": [FIRST, FAR], "/v/b.mp4": [FAR, NEAR], "/v/c.mp4": [FIRST, FAR]}
    videos = [with_vectors(make_video(name, [BIKING] * 2), np.array(rows)) for name, rows in vectors.items()]
    # The parts of a folder: the page is in the order of the parts.
    for video in reversed(videos):
        publish_to(tmp_path / "tags", [video], identity=EMBEDDED)
    finished = open_result(str(tmp_path / "tags"))
    data = gather(finished)
    names = data.videos["video"].to_pylist()
    row = next(row for row in range(6) if names[data.segments.video[row]] == "/v/a.mp4")
    found = [
        (names[data.segments.video[each]], int(data.segments.start_ms[each]), similarity)
        for each, similarity in rows_alike(finished, data, row, 10)
    ]
    assert found[:2] == [("/v/c.mp4", 0, 1.0), ("/v/b.mp4", 2000, pytest.approx(0.894, abs=1e-3))]


def test_a_result_without_embeddings_is_named(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [BIKING])])
    finished = open_result(str(tmp_path / "t.parquet"))
    with pytest.raises(OutputError, match="has no embeddings"):
        rows_alike(finished, gather(finished), 0, 10)

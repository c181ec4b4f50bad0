"""Clusters of what looks alike, and their typical moments."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.browse import segments
from jobs.browse.segments import open_result
from jobs.browse.vectors.clusters import find_clusters
from jobs.cli import main
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.result.finished import EMBEDDED, publish_to

SIZE = 8

GROUPS = {"Biking": (0, 6), "Swing": (1, 3)}
"""The direction of what shows a label, and the number of videos with two segments of it."""


@pytest.fixture(params=["tags.parquet", "tags"])
def result(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Videos of two kinds. In each, the first segment is nearer to the centre of its kind; one label is wrong."""
    random = np.random.default_rng(0)
    videos = []
    for label, (direction, count) in GROUPS.items():
        for number in range(count):
            vectors = np.repeat(10 * np.eye(SIZE)[[direction]], 2, axis=0)
            vectors[1, 2:] += random.standard_normal(SIZE - 2)
            wrong = label == "Biking" and number == 5
            labels = [{label: 1.0}, {"Diving" if wrong else label: 1.0}]
            videos.append(with_vectors(make_video(f"/v/{label}-{number}.mp4", labels), vectors))
    publish_to(tmp_path / str(request.param), videos, identity=EMBEDDED)
    return tmp_path / str(request.param)


def test_clusters_come_with_their_size_their_labels_and_typical_moments(
    result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_clusters(open_result(str(result)), 2, moments=2).to_pylist()
    assert [(row["cluster"], row["segments"], row["share"], row["labels"]) for row in found] == [
        (1, 12, pytest.approx(12 / 18), "Biking 92 %, Diving 8 %"),
        (1, 12, pytest.approx(12 / 18), "Biking 92 %, Diving 8 %"),
        (2, 6, pytest.approx(6 / 18), "Swing 100 %"),
        (2, 6, pytest.approx(6 / 18), "Swing 100 %"),
    ]
    assert all(row["start_s"] == 0.0 and row["similarity"] > 0.97 for row in found)
    assert len({row["video"] for row in found}) == 4
    # The same when the segments come in many portions.
    monkeypatch.setattr(segments, "BATCH_ROWS", 4)
    assert find_clusters(open_result(str(result)), 2, moments=2).to_pylist() == found


def test_there_are_no_more_clusters_than_segments(result: Path) -> None:
    found = find_clusters(open_result(str(result)), 50, moments=3)
    assert found["cluster"].to_pylist()[-1] <= 18
    assert sum(dict(zip(found["cluster"].to_pylist(), found["segments"].to_pylist(), strict=True)).values()) == 18


def test_each_cluster_is_printed_above_its_moments(result: Path) -> None:
    done = CliRunner().invoke(main, ["clusters", str(result), "--count", "2", "--moments", "1"])
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "cluster 1  12 segments (66.7 %)  Biking 92 %, Diving 8 %"
    assert "Biking  0.0 s to 2.0 s  /v/Biking-" in lines[1] and "/v/Biking-" in lines[2]
    assert lines[3] == "cluster 2  6 segments (33.3 %)  Swing 100 %"
    assert lines[-1] == "2 clusters"
    found = json.loads(CliRunner().invoke(main, ["clusters", str(result), "--count", "2", "--json"]).stdout)
    assert [row["cluster"] for row in found["moments"]] == [1, 1, 1, 2, 2, 2]
    assert all(row["play"] for row in found["moments"])

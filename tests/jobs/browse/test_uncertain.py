"""The moments to label next."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.browse import segments
from jobs.browse.segments import open_result
from jobs.browse.uncertain import farthest, uncertain_moments
from jobs.cli import main
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.result.finished import EMBEDDED, publish_to


def hesitation(first: str, second: str, confidence: float) -> dict[str, float]:
    return {first: confidence, second: round(1 - confidence, 4)}


VIDEOS = {
    # One event of Biking, whose second segment is the least certain of it, then one of Swing.
    "/v/a.mp4": [hesitation("Biking", "Swing", c) for c in (0.9, 0.55, 0.7)] + [hesitation("Swing", "Biking", 0.6)],
    "/v/b.mp4": [{"Diving": 0.75}, hesitation("Diving", "Swing", 0.95)],
}


def publish(out: Path, **options: object) -> Path:
    publish_to(out, [make_video(name, labels, **options) for name, labels in VIDEOS.items()])  # type: ignore[arg-type]
    return out


def moments(path: Path, top: int = 10, max_ood: float | None = None) -> list[tuple[object, ...]]:
    found = uncertain_moments(open_result(str(path)), top, max_ood=max_ood).to_pylist()
    return [(row["video"], row["start_s"], row["guess"], row["second_guess"], round(row["margin"], 3)) for row in found]


UNSURE, NEXT, LAST = (
    ("/v/a.mp4", 2.0, "Biking", "Swing", 0.1),
    ("/v/a.mp4", 6.0, "Swing", "Biking", 0.2),
    ("/v/b.mp4", 0.0, "Diving", None, 0.75),
)


@pytest.mark.parametrize("name", ["tags.parquet", "tags"])
def test_the_least_certain_segment_of_each_event_is_found(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = publish(tmp_path / name)
    assert moments(path) == [UNSURE, NEXT, LAST]
    assert moments(path, top=1) == [UNSURE]
    monkeypatch.setattr(segments, "BATCH_ROWS", 1)
    assert moments(path) == [UNSURE, NEXT, LAST]


def test_segments_that_look_unlike_the_training_are_left_out(tmp_path: Path) -> None:
    path = publish(tmp_path / "t.parquet", ood_scores=[0.1, 0.99, 0.2, 0.3])
    assert moments(path, max_ood=0.9)[:2] == [NEXT, ("/v/a.mp4", 4.0, "Biking", "Swing", 0.4)]


def test_with_embeddings_moments_that_look_like_others_come_later(tmp_path: Path) -> None:
    # The second video looks like the first, the fourth like the third. The others are different, and certain.
    confidences = (0.51, 0.52, 0.53, 0.54, *[0.9] * 12)
    vectors = np.concatenate([np.eye(8)[[0, 0, 1, 1]] + 0.01 * np.eye(8)[[2, 3, 4, 5]], -np.eye(8)[[0, 1, 2] * 4]])
    videos = [
        with_vectors(make_video(f"/v/{number}.mp4", [hesitation("Biking", "Swing", share)]), vectors[[number]])
        for number, share in enumerate(confidences)
    ]
    publish_to(tmp_path / "t.parquet", videos, identity=EMBEDDED)
    found = [row[0] for row in moments(tmp_path / "t.parquet", top=2)]
    assert found[0] == "/v/0.mp4" and found[1] in ("/v/2.mp4", "/v/3.mp4")
    assert len(moments(tmp_path / "t.parquet", top=20)) == 16


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 1000))
def test_each_choice_is_the_farthest_from_those_before_it(count: int, wanted: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((count, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = farthest(vectors, wanted).tolist()
    assert chosen[0] == 0 and len(set(chosen)) == len(chosen) == min(count, wanted)
    for number in range(1, len(chosen)):
        before = chosen[:number]
        nearest = {row: (vectors[before] @ vectors[row]).max() for row in range(count) if row not in before}
        assert nearest[chosen[number]] == pytest.approx(min(nearest.values()))


def test_the_csv_is_a_list_of_moments_with_an_empty_label(tmp_path: Path) -> None:
    path = publish(tmp_path / "t.parquet")
    done = CliRunner().invoke(main, ["uncertain", str(path), "--top", "2", "--csv"])
    assert (done.exit_code, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["video"], row["start_s"], row["end_s"], row["label"]) for row in rows] == [
        ("/v/a.mp4", "2.0", "4.0", ""),
        ("/v/a.mp4", "6.0", "8.0", ""),
    ]
    assert list(rows[0])[:4] == ["video", "start_s", "end_s", "label"]
    lines = CliRunner().invoke(main, ["uncertain", str(path)]).stdout.splitlines()
    assert lines[0].split() == ["video", "start", "end", "guess", "confidence", "second", "guess", "margin"]
    assert lines[-1] == "3 moments"

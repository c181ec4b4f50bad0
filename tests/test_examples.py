"""The examples do what they say."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.videos import encode

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_example_queries_run_on_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def row(video: str, segment: int, best: str, other: str, confidence: float) -> dict[str, object]:
        return {
            "video": video,
            "segment": segment,
            "start_s": 2.0 * segment,
            "end_s": 2.0 * segment + 2,
            "label": best,
            "confidence": confidence,
            "top_labels": [best, other],
            "top_confidences": [confidence, 1 - confidence],
        }

    rows = [row("a.mp4", 0, "Swing", "Diving", 0.6), row("a.mp4", 1, "Diving", "Swing", 0.9)]
    rows += [row("b.mp4", 0, "Swing", "Diving", 0.7)]
    empty = dict.fromkeys(VIDEOS_SCHEMA.names)
    now = datetime.now(UTC)
    done = {**empty, "mtime": now, "status": "ok", "decode_s": 0.1, "predict_s": 0.1}
    videos = [{**done, "video": "a.mp4", "segments": 2}, {**done, "video": "b.mp4", "segments": 1}]
    failed = {"video": "c.mp4", "segments": 0, "status": "failed", "error_kind": "empty", "error": "c.mp4 is empty"}
    pq.write_table(pa.Table.from_pylist(rows, TAGS_SCHEMA), tmp_path / "tags.parquet")
    pq.write_table(pa.Table.from_pylist([*videos, {**done, **failed}], VIDEOS_SCHEMA), tmp_path / "tags.videos.parquet")
    monkeypatch.chdir(tmp_path)
    labels, certain, by_video, unread = (
        duckdb.sql(query).fetchall() for query in (EXAMPLES / "queries.sql").read_text().split(";")[:-1]
    )
    assert labels == [("Swing", 2, 0.1), ("Diving", 1, 0.0)]
    assert [entry[:3] for entry in certain] == [("Diving", "a.mp4", 2.0), ("Swing", "b.mp4", 0.0)]
    # 0.4 and 0.9 of Diving against 0.6 and 0.1 of Swing.
    assert [entry[:2] for entry in by_video] == [("a.mp4", "Diving"), ("b.mp4", "Swing")]
    assert by_video[0][2] == pytest.approx(0.65)
    assert unread == [("c.mp4", "failed", "empty", "c.mp4 is empty")]


@pytest.mark.slow
def test_moments_of_an_action_are_printed(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", seconds=3)
    script = [sys.executable, str(EXAMPLES / "find_moments.py"), str(clip)]
    found = subprocess.run([*script, "Swing", "0"], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0.00", "s", "to", "3.00", "s"]
    unknown = subprocess.run([*script, "Juggling"], capture_output=True, text=True)
    assert unknown.returncode == 1 and "does not know 'Juggling'" in unknown.stderr

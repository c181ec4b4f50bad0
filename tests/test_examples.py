"""The examples do what they say."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.jobs.result.embedded import vector_of
from tests.jobs.result.finished import EMBEDDED, make_finished, publish_to
from tests.videos import encode

ROWS = (("a", 0), ("a", 1), ("b", 2), ("c", 0))
"""Label and number of the segments of the result with embeddings."""

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


@pytest.mark.parametrize("size", [512, 384])
def test_similar_segments_are_found_with_duckdb_and_with_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    identity = replace(EMBEDDED, embeddings={"size": size, "version": 1})
    videos = [make_finished("/v/a.mp4", "aab"), make_finished("/v/b.mp4", ""), make_finished("/v/c.mp4", "c")]
    monkeypatch.chdir(tmp_path)
    for out in ("tags.parquet", "tags"):
        publish_to(out, videos, identity=identity)
    found = duckdb.sql((EXAMPLES / "similar.sql").read_text()).fetchall()
    assert found[0] == (1.0, "a", "/v/a.mp4", 0.0)
    vectors = [vector_of(label, segment, size).astype(np.float32) for label, segment in ROWS]
    expected = sorted((float(vector @ vectors[0]) for vector in vectors), reverse=True)
    assert [row[0] for row in found] == pytest.approx(expected, abs=2e-3)

    for out in ("tags.parquet", "tags"):
        script = [sys.executable, str(EXAMPLES / "similar.py"), out, "/v/a.mp4"]
        lines = subprocess.run([*script, "1.5"], capture_output=True, text=True, check=True).stdout.splitlines()
        assert lines[0].split() == ["1.000", "0.00", "s", "to", "2.00", "s", "a", "/v/a.mp4"]
        assert [float(line.split()[0]) for line in lines] == pytest.approx(expected, abs=2e-3)
        missing = subprocess.run([*script, "100"], capture_output=True, text=True)
        assert (missing.returncode, missing.stderr) == (1, f"{out} has no segment at 100 s of /v/a.mp4\n")


@pytest.mark.slow
def test_moments_of_an_action_are_printed(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", seconds=3)
    script = [sys.executable, str(EXAMPLES / "find_moments.py"), str(clip)]
    found = subprocess.run([*script, "Swing", "0"], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0.00", "s", "to", "3.00", "s"]
    unknown = subprocess.run([*script, "Juggling"], capture_output=True, text=True)
    assert unknown.returncode == 1 and "does not know 'Juggling'" in unknown.stderr

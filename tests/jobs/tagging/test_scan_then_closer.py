"""Scan first, then look closer: ``vtag run --every``, ``vtag events --csv`` and ``vtag run --only`` through Ray."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from tagger import load_model
from tests.click_runner import CliRunner
from tests.videos import encode


def vtag(*arguments: object) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.usefixtures("shared_ray")
def test_events_of_a_sparse_scan_are_looked_at_again_with_overlap(tmp_path: Path, model_file: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        encode(videos / name, seconds=16, rate=10)
    scan, closer, csv = tmp_path / "scan.parquet", tmp_path / "closer.parquet", tmp_path / "events.csv"
    settings = ("--model", model_file, "--actors", "1")
    vtag("run", videos, "--out", scan, *settings, "--every", "5s")
    assert [row["start_s"] for row in pq.read_table(scan).to_pylist()] == [0.0, 5.0, 10.0, 15.0] * 3

    lines = vtag("events", scan, "--csv").splitlines()
    wanted = [line for line in lines if "b.mp4,5.0," in line or "c.mp4,15.0," in line]
    assert len(wanted) == 2
    csv.write_text("\n".join([lines[0], *wanted]))
    command = ("run", videos, "--out", closer, *settings, "--overlap", "0.5", "--only", csv)
    printed = " ".join(vtag(*command).split())
    assert "Ranges 2 ranges of 2 videos; 1 other video left out" in printed

    tagger = load_model(str(model_file), device="cpu")
    rows = pq.read_table(closer).to_pylist()
    for name, only in (("a.mp4", []), ("b.mp4", [(5.0, 5.0 + 64 / 30)]), ("c.mp4", [(15.0, 16.0)])):
        segments = tagger.tag(videos / name, hop_s=32 / 30, only=only)
        found = [row for row in rows if row["video"] == str(videos / name)]
        assert [(row["start_s"], row["end_s"]) for row in found] == [(each.start_s, each.end_s) for each in segments]
        assert [row["label"] for row in found] == [each.label for each in segments]
    assert [row["segment"] for row in rows] == [3, 4, 5, 6, 13]
    assert "5 segments, complete, no duplicates" in vtag("verify", closer)
    assert "2 kept" in vtag(*command, "--dry-run")

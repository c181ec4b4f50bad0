"""``vtag run`` in a separate process, with real Ray and the built-in model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import psutil
import pytest

import tagger
from tests.videos import encode

pytestmark = pytest.mark.slow

VTAG = [sys.executable, "-c", "from jobs.cli import main; main()"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good video, one that is not a video, and an empty file."""
    folder = tmp_path_factory.mktemp("archive")
    encode(folder / "good.mp4", seconds=5)
    (folder / "broken.mp4").write_bytes(bytes(range(256)) * 40)
    (folder / "empty.mp4").touch()
    return folder


def test_an_archive_with_bad_files_is_tagged_and_the_status_says_so(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.parquet"
    done = subprocess.run([*VTAG, "run", str(archive), "--out", str(out), "--json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "summary"
    assert (events[-1]["videos"], events[-1]["ok"], events[-1]["failed"]) == (3, 1, 2)
    videos = duckdb.sql(f"SELECT video, status, error_kind FROM '{tmp_path}/tags.videos.parquet' ORDER BY 1").fetchall()
    assert [(Path(name).name, *rest) for name, *rest in videos] == [
        ("broken.mp4", "failed", "not_video"),
        ("empty.mp4", "failed", "empty"),
        ("good.mp4", "ok", None),
    ]
    rows = duckdb.sql(f"SELECT start_s, end_s, label, confidence FROM '{out}' ORDER BY segment").fetchall()
    segments = tagger.load_model().tag(archive / "good.mp4")
    assert [row[:3] for row in rows] == [(s.start_s, s.end_s, s.label) for s in segments]
    assert [row[3] for row in rows] == pytest.approx([s.confidence for s in segments], abs=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_says_what_is_kept_and_leaves_no_process_behind(archive: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03}.mp4").symlink_to(archive / "good.mp4")
    command = [*VTAG, "run", str(many), "--out", str(tmp_path / "tags.parquet"), "--json"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert job.stdout is not None and job.stderr is not None
    for line in job.stdout:
        if json.loads(line).get("videos_done", 0) > 0:
            break
    children = psutil.Process(job.pid).children(recursive=True)
    # Like a terminal, sends Ctrl-C to every process of the group.
    os.killpg(job.pid, signal.SIGINT)
    job.stdout.read()
    message = job.stderr.read()
    assert job.wait(timeout=60) == 130, message
    assert "of 300 videos are finished and kept in" in message and "Traceback" not in message
    assert not [child for child in psutil.wait_procs(children, timeout=20)[1] if child.is_running()]
    assert not (tmp_path / "tags.parquet").exists()

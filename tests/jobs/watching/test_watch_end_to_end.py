"""``vtag watch`` as a process of its own, with Ray: killed, started again, and ended by SIGTERM."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from jobs.result.verify import verify
from tests.videos import encode

pytestmark = pytest.mark.slow


class Watch:
    """The process. Its standard output and error are one stream."""

    def __init__(self, folder: Path, out: Path, model_file: Path):
        command = [sys.executable, "-c", "from jobs.cli import main; main()", "watch", folder, "--out", out]
        self.process = subprocess.Popen(
            [*command, "--settle", "1s", "--model", model_file, "--device", "cpu", "--address", "local"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ,
        )
        self.next_line()

    def next_line(self) -> str:
        """Waits for a line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Sends a signal. Returns the exit status and the last lines."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


def arrive(folder: Path, *names: str) -> None:
    """Puts complete videos of three seconds into the folder, all at once."""
    for video in [encode(folder.parent / name, seconds=3, rate=10) for name in names]:
        video.rename(folder / video.name)


def test_videos_that_arrive_are_tagged_once_over_a_kill_and_a_new_start(tmp_path: Path, model_file: Path) -> None:
    folder, out = tmp_path / "videos", tmp_path / "tags"
    folder.mkdir()
    watch = Watch(folder, out, model_file)
    for names in (("a.mp4", "b.mp4"), ("c.mp4",)):
        arrive(folder, *names)
        assert re.search(rf"  {len(names)} videos?, {2 * len(names)} segments in 0:\d\d$", watch.next_line())
    assert watch.end(signal.SIGKILL) == (-signal.SIGKILL, "")
    arrive(folder, "d.mp4")
    watch = Watch(folder, out, model_file)
    assert "  1 video, 2 segments in " in watch.next_line()
    status, rest = watch.end(signal.SIGTERM)
    assert (status, rest.splitlines()) == (
        130,
        [f"vtag: interrupted; the result at {out} is safe, and the same command continues"],
    )
    assert verify(str(out)).problem is None
    rows = duckdb.sql(f"SELECT parse_filename(video), count(*) FROM '{out}/tags/*.parquet' GROUP BY 1 ORDER BY 1")
    assert rows.fetchall() == [(f"{name}.mp4", 2) for name in "abcd"]

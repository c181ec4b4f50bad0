"""Commands that are started in unusual places, each in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.videos import encode

PROGRAM = "import os, sys; os.rmdir(os.getcwd()); from jobs.cli import main; main(sys.argv[1:])"
"""Removes the current folder and runs ``vtag``."""


def in_a_removed_folder(tmp_path: Path, *args: object) -> subprocess.CompletedProcess[str]:
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-P", "-c", PROGRAM, *map(str, args)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove the current folder of a process")
class TestRemovedFolder:
    def test_probe_shows_the_whole_path(self, tmp_path: Path) -> None:
        video = encode(tmp_path / "a.mp4", seconds=3)
        done = in_a_removed_folder(tmp_path, "probe", video)
        assert done.returncode == 0, done.stderr
        assert str(video) in done.stdout

    def test_a_relative_path_is_one_clear_line(self, tmp_path: Path) -> None:
        done = in_a_removed_folder(tmp_path, "run", "a.mp4", "--out", tmp_path / "t.parquet")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (
            1,
            "vtag: a.mp4 cannot be found: the current folder was removed; give an absolute path",
        )

    @pytest.mark.slow
    @pytest.mark.usefixtures("one_core")
    def test_a_job_runs_as_anywhere_else(self, tmp_path: Path) -> None:
        video = encode(tmp_path / "a.mp4", seconds=3)
        done = in_a_removed_folder(tmp_path, "run", video, "--out", tmp_path / "t.parquet", "--address", "local")
        assert done.returncode == 0, done.stderr
        assert pq.read_table(tmp_path / "t.parquet").num_rows == 2


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_a_job_runs_when_tmpdir_is_too_long_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    video = encode(tmp_path / "a.mp4", seconds=3)
    done = vtag("run", video, "--out", tmp_path / "t.parquet", "--address", "local")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 2


def test_a_ray_folder_too_long_for_sockets_is_one_line_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/" + 50 * "x")
    video = encode(tmp_path / "a.mp4", seconds=3)
    done = vtag("run", video, "--out", tmp_path / "t.parquet", "--address", "local")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (
        1,
        [
            "vtag: RAY_TMPDIR is too long for the sockets of Ray, which allow 39 bytes: /" + 50 * "x" + "; set "
            "RAY_TMPDIR to a shorter folder"
        ],
    )


def vtag(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from jobs.cli import main; main()", *map(str, args)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

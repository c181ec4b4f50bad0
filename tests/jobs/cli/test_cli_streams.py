"""Commands whose standard streams are closed, each in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs.cli.test_cli_pipe import PROGRAM as PROGRAM_WITHOUT_RAY
from tests.videos import encode

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")

PROGRAM = "from jobs.cli import main; main()"

CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")
"""The redirections of a shell that close standard input, output, error, and all three."""


def run_closed(closed: str, *args: object, program: str = PROGRAM) -> tuple[int, str]:
    """Runs ``vtag`` with the streams that ``closed`` closes. Returns its exit status and all that it printed."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-P", "-c", program, *map(str, args)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_a_job_publishes_its_result(closed: str, options: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "videos"
    archive.mkdir()
    for number in range(20):
        (archive / f"{number}.mp4").write_text("ab")
    out = tmp_path / "t.parquet"
    status, printed = run_closed(closed, "run", archive, "--out", out, *options, program=PROGRAM_WITHOUT_RAY)
    assert (status, "Traceback" in printed) == (0, False), printed
    assert pq.read_table(out).num_rows == 40
    assert pq.read_table(tmp_path / "t.videos.parquet").num_rows == 20


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("closed", CLOSED)
def test_a_job_on_ray_publishes_its_result(closed: str, tmp_path: Path) -> None:
    video, out = encode(tmp_path / "a.mp4", seconds=3), tmp_path / "t.parquet"
    status, printed = run_closed(closed, "run", video, "--out", out, "--address", "local")
    assert status == 0, printed
    assert pq.read_table(out).num_rows == 2


@pytest.mark.parametrize("closed", CLOSED)
def test_other_commands_end_as_usual(closed: str, tmp_path: Path) -> None:
    video, out = encode(tmp_path / "a.mp4", seconds=3), tmp_path / "t.parquet"
    for expected, *args in (
        (0, "--help"),
        (0, "models"),
        (0, "probe", video, "--decode"),
        (0, "run", video, "--out", out, "--dry-run"),
        (1, "verify", out),
        (2, "run", video),
    ):
        status, printed = run_closed(closed, *args)
        assert (args, status, "Traceback" in printed) == (args, expected, False), printed


def test_a_closed_standard_input_is_an_empty_list(tmp_path: Path) -> None:
    status, printed = run_closed("<&-", "run", "-", "--out", tmp_path / "t.parquet", "--dry-run")
    assert status == 1
    assert "standard input names no videos" in printed

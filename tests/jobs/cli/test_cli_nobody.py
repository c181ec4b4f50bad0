"""Commands of a user id without a passwd entry, as containers of Kubernetes and OpenShift have it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.videos import encode

USER_ID = "54321"

READ_ALL = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
"""Lets the user read what root can read, because Python may be installed in a folder of root's. Allows no writing."""

HOMES = [pytest.param(None, id="no home"), pytest.param("/", id="home is /")]


def command(rights: Sequence[str], *args: object) -> list[str]:
    user = ("setpriv", "--reuid", USER_ID, "--regid", USER_ID, "--clear-groups", *rights)
    return [*user, sys.executable, "-P", "-c", *map(str, args)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user's, also for temporary files. Below /tmp, because other folders of tests are private."""
    path = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    if os.getuid() == 0:
        os.chown(path, int(USER_ID), int(USER_ID))
    yield path
    shutil.rmtree(path)


def environment(folder: Path, home: str | None) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        **({} if home is None else {"HOME": home}),
    }


@pytest.fixture
def rights(folder: Path) -> Sequence[str]:
    """The rights that the user needs to run Python."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, with setpriv")
    # Python starts processes of Python, which setpriv does not help.
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import jobs.cli'], check=True)"
    for rights in ((), READ_ALL):
        done = subprocess.run(command(rights, program), cwd=folder, env=environment(folder, None), capture_output=True)
        if done.returncode == 0:
            return rights
    pytest.skip("another user cannot run this Python")


def vtag(rights: Sequence[str], folder: Path, home: str | None, *args: object) -> str:
    """Runs ``vtag`` as the user; returns what it printed on standard output."""
    program = command(rights, "from jobs.cli import main; main()", *args)
    done = subprocess.run(
        program, cwd=folder, env=environment(folder, home), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("home", HOMES)
def test_models_are_downloaded_to_the_folder_for_temporary_files(
    home: str | None, rights: Sequence[str], folder: Path
) -> None:
    printed = "".join(vtag(rights, folder, home, "models").split())
    assert f"{folder}/vtag-home-{USER_ID}/.cache/vtag/I3D_8x8_R50.pyth" in printed


def test_a_video_is_probed(rights: Sequence[str], folder: Path) -> None:
    video = encode(folder / "a.mp4", seconds=3)
    assert "windows" in vtag(rights, folder, None, "probe", video, "--decode")


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("home", HOMES)
def test_a_job_publishes_its_result(home: str | None, rights: Sequence[str], folder: Path) -> None:
    video = encode(folder / "a.mp4", seconds=3)
    vtag(rights, folder, home, "run", video, "--out", folder / "t.parquet", "--address", "local")
    assert pq.read_table(folder / "t.parquet").num_rows == 2

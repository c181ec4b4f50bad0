"""What a Ray on this machine gets of it."""

import tempfile
from pathlib import Path

import pytest

from jobs.cluster import local_ray
from jobs.cluster.local_ray import choose_object_store_bytes, temporary_folder
from jobs.cluster.ray_driver import RayDriver
from jobs.errors import JobError

GIB = 2**30
ROOMY = 10**15


@pytest.mark.parametrize(
    ("memory", "cores", "shared", "disk", "expected"),
    [
        pytest.param(24 * GIB, 2, 12 * GIB, ROOMY, 2 * GIB, id="a laptop"),
        pytest.param(512 * GIB, 64, 256 * GIB, ROOMY, 16 * GIB, id="a large machine"),
        pytest.param(512 * GIB, 64, 64 * 2**20, ROOMY, 8 * GIB, id="a container with little shared memory"),
        pytest.param(512 * GIB, 64, 0, 6 * GIB, 3 * GIB, id="no shared memory and a small disk"),
        pytest.param(512 * GIB, 64, 1 * GIB, ROOMY, int(0.9 * GIB), id="some shared memory"),
        pytest.param(2 * GIB, 2, 12 * GIB, ROOMY, GIB // 2, id="a container with little memory"),
        pytest.param(GIB // 8, 2, 12 * GIB, ROOMY, 80 * 2**20, id="a container with hardly any memory"),
    ],
)
def test_the_object_store_has_a_size_with_which_ray_starts(
    memory: int, cores: int, shared: int, disk: int, expected: int
) -> None:
    assert choose_object_store_bytes(memory, cores, shared, disk) == expected


@pytest.mark.parametrize(
    ("cores", "memory", "cpus"), [(2, 24 * GIB, 2), (64, 256 * GIB, 64), (64, 6 * GIB, 4), (8, GIB, 1)]
)
def test_there_are_no_more_cpus_than_memory_for_them(
    cores: int, memory: int, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_ray, "usable_cores", lambda: cores)
    monkeypatch.setattr(local_ray, "usable_memory_bytes", lambda: memory)
    assert local_ray.cpus() == cpus


@pytest.fixture
def long_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder for temporary files, with a name that is too long for Ray's sockets."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return str(folder)


def test_a_short_folder_for_temporary_files_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/t")
    assert temporary_folder({}) == "/t"
    assert temporary_folder({"RAY_TMPDIR": "/r"}) == "/r"


def test_the_longest_folder_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    for length, folder in ((39, "/" + 38 * "x"), (40, "/tmp")):
        monkeypatch.setattr(tempfile, "tempdir", "/" + (length - 1) * "x")
        assert temporary_folder({}) == folder


def test_sockets_are_in_a_short_folder_when_tmpdir_is_too_long(long_folder: str) -> None:
    assert temporary_folder({"TMPDIR": long_folder}) == "/tmp"


def test_without_a_short_folder_one_line_names_tmpdir(long_folder: str) -> None:
    with pytest.raises(JobError, match=r"^TMPDIR is too long for the sockets of Ray.*; set RAY_TMPDIR to a shorter"):
        temporary_folder({"TMPDIR": long_folder}, short=Path("/nowhere"))


def test_nothing_is_started_when_there_is_no_folder_for_sockets(
    long_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", long_folder)
    driver = RayDriver("tagging", address="local")
    with pytest.raises(JobError, match=r"^RAY_TMPDIR is too long .*; set RAY_TMPDIR to a shorter folder$"):
        driver.start()
    with pytest.raises(AssertionError):
        _ = driver.pid


def test_a_cluster_that_runs_already_has_its_own_folder(long_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", long_folder)
    with RayDriver("tagging", address="10.0.0.1:6379") as driver:
        assert driver.pid


def test_without_a_folder_for_temporary_files_one_line_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_error() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", raise_error)
    with pytest.raises(JobError, match="set TMPDIR to a folder that can"):
        temporary_folder({})

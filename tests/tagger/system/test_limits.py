"""The limits of made-up control groups."""

import os
from pathlib import Path

import pytest

from tagger.system.limits import usable_cores, usable_memory_bytes

MANY_CORES = set(range(64))

GIB = 2**30


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 64 cores and 256 GiB of memory."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: MANY_CORES, raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 256 * GIB // 4096}.__getitem__)


def tree(root: Path, groups: str, **files: str) -> Path:
    """Writes ``/proc/self/cgroup`` and files below ``/sys/fs/cgroup`` to ``root``; ``__`` in a name means a slash."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}.items():
        file = root / name.replace("__", "/").replace("-", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def test_without_control_groups_the_whole_machine_counts(tmp_path: Path) -> None:
    assert (usable_cores(tmp_path), usable_memory_bytes(tmp_path)) == (64, 256 * GIB)


def test_a_container_of_version_2_has_its_own_limits(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", **{"cpu-max": "400000 100000", "memory-max": str(4 * GIB)})
    assert (usable_cores(root), usable_memory_bytes(root)) == (4, 4 * GIB)


def test_version_2_without_limits(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", **{"cpu-max": "max 100000", "memory-max": "max"})
    assert (usable_cores(root), usable_memory_bytes(root)) == (64, 256 * GIB)


def test_a_container_of_version_1_has_its_own_limits_below_the_path_of_the_host(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "4:memory:/docker/4711\n3:cpu,cpuacct:/docker/4711\n1:name=systemd:/docker/4711",
        **{
            "cpu__cpu-cfs_quota_us": "300000",
            "cpu__cpu-cfs_period_us": "100000",
            "memory__memory-limit_in_bytes": str(2 * GIB),
        },
    )
    assert (usable_cores(root), usable_memory_bytes(root)) == (3, 2 * GIB)


def test_version_1_without_limits(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "2:memory:/\n1:cpu:/",
        **{
            "cpu__cpu-cfs_quota_us": "-1",
            "cpu__cpu-cfs_period_us": "100000",
            "memory__memory-limit_in_bytes": "9223372036854771712",
        },
    )
    assert (usable_cores(root), usable_memory_bytes(root)) == (64, 256 * GIB)


@pytest.mark.parametrize("tightest", ["", "jobs.slice__", "jobs.slice__one.scope__"])
def test_the_smallest_limit_of_nested_groups_counts(tightest: str, tmp_path: Path) -> None:
    files = {}
    for folder in ("", "jobs.slice__", "jobs.slice__one.scope__"):
        is_tightest = folder == tightest
        files[f"{folder}cpu-max"] = "200000 100000" if is_tightest else "800000 100000"
        files[f"{folder}memory-max"] = str(GIB) if is_tightest else "max"
    root = tree(tmp_path, "0::/jobs.slice/one.scope", **files)
    assert (usable_cores(root), usable_memory_bytes(root)) == (2, GIB)


def test_limits_of_other_groups_do_not_count(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/mine", **{"other__cpu-max": "100000 100000", "other__memory-max": str(GIB)})
    assert (usable_cores(root), usable_memory_bytes(root)) == (64, 256 * GIB)


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("250000 100000", 2)])
def test_a_quota_is_rounded_down_to_whole_cores_and_never_to_none(quota: str, cores: int, tmp_path: Path) -> None:
    assert usable_cores(tree(tmp_path, "0::/", **{"cpu-max": quota})) == cores


def test_cores_that_the_scheduler_does_not_give_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert usable_cores(tree(tmp_path, "0::/", **{"cpu-max": "800000 100000"})) == 3


def test_a_decoder_gets_at_most_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from tagger.isolation import process

    for memory, limit in ((GIB, GIB // 2), (64 * GIB, 2 * GIB)):
        monkeypatch.setattr(process, "usable_memory_bytes", lambda memory=memory: memory)
        assert process.Limits().memory_bytes == limit


def test_pytorch_gets_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tagger import classifier

    before = torch.get_num_threads()
    try:
        for cores, threads in ((2, 2), (8, 3)):
            torch.set_num_threads(3)
            monkeypatch.setattr(classifier, "usable_cores", lambda cores=cores: cores)
            classifier.limit_threads()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

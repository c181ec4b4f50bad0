"""The cores and the memory that this process may use, which in a container are fewer than those of the machine.

Reads the limits of control groups, version 1 and 2, at their usual places below ``/sys/fs/cgroup``. Groups are nested,
and the smallest limit on the way to the top counts.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Returns the number of cores that this process may keep busy, at least 1.

    It is the number of cores that the scheduler gives to this process (affinity, ``cpuset``), or the CPU quota of its
    control groups (``docker run --cpus``, the CPU limit of Kubernetes), rounded down, if that is less. ``root`` is the
    folder that holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_cpu_quotas(root)])))


def usable_memory_bytes(root: Path = ROOT) -> int:
    """Returns the memory of the machine in bytes, or the memory limit of the control groups if that is less."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_memory_limits(root)])


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yields the quotas in cores. A quota is microseconds of CPU time per period."""
    for folder in _folders(root, ""):
        yield from _quota(*_numbers(folder / "cpu.max"))
    for folder in _folders(root, "cpu"):
        yield from _quota(*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us"))


def _quota(*quota_and_period_us: int) -> Iterator[float]:
    # Without a quota, the first number is missing ("max") in version 2, and -1 in version 1.
    match quota_and_period_us:
        case (quota_us, period_us) if quota_us > 0 and period_us > 0:
            yield quota_us / period_us


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _folders(root, ""):
        yield from _numbers(folder / "memory.max")
    for folder in _folders(root, "memory"):
        # Without a limit, this is about 2**63.
        yield from _numbers(folder / "memory.limit_in_bytes")


def _numbers(file: Path) -> list[int]:
    """Returns the numbers in a file; an empty list when there is no such file."""
    with contextlib.suppress(OSError):
        return [int(word) for word in file.read_text().split() if word.lstrip("-").isdecimal()]
    return []


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of this process's control group and of the groups around it, for a controller of version 1.

    Version 2 has one tree for all controllers; its name here is "". Some of the folders may not exist: a container may
    see its own group as the top of the tree, and yet be told its path on the host.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
            group = top / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))

"""Measures wall time, CPU time and peak memory of every process of one `vtag run`. Takes that command's arguments.

Memory is PSS: shared memory, such as Ray's object store, is divided among the processes that share it, so that the
figures add up. Processes are sampled about twice a second; a shorter peak is missed.
"""

import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

INTERVAL_S = 0.5


@dataclass
class Usage:
    """The resources that one process has used so far."""

    name: str
    peak_bytes: int = 0
    cpu_s: float = 0.0


def main() -> None:
    """Runs `vtag run` with the arguments of this script and prints what its processes used."""
    started_s = time.monotonic()
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "run", *sys.argv[1:]]
    driver = psutil.Popen(command)
    usages: dict[int, Usage] = {}
    peak_bytes = 0
    while driver.poll() is None:
        total = 0
        for process in [driver, *driver.children(recursive=True)]:
            total += record_usage(process, "driver" if process.pid == driver.pid else None, usages)
        peak_bytes = max(peak_bytes, total)
        time.sleep(INTERVAL_S)
    wall_s = time.monotonic() - started_s
    cpu_s = sum(usage.cpu_s for usage in usages.values())
    print(f"\nexit status {driver.returncode}; wall {wall_s:.1f} s; CPU {cpu_s:.1f} s; peak {megabytes(peak_bytes)}")
    for usage in sorted(usages.values(), key=lambda usage: -usage.peak_bytes):
        if usage.peak_bytes > 50e6:
            print(f"  {megabytes(usage.peak_bytes):>9}  {usage.cpu_s:8.1f} s CPU  {usage.name}")
    raise SystemExit(driver.returncode)


def record_usage(process: psutil.Process, name: str | None, usages: dict[int, Usage]) -> int:
    """Records the resources that ``process`` uses; returns its PSS in bytes, 0 when it has just ended."""
    try:
        with process.oneshot():
            used = process.memory_full_info().pss
            times = process.cpu_times()
            title = name or " ".join(process.cmdline()[:1]).split("/")[-1] or process.name()
    except (psutil.Error, subprocess.SubprocessError):
        return 0
    usage = usages.setdefault(process.pid, Usage(title))
    if title.startswith("ray::") and "IDLE" not in title:
        usage.name = title  # Ray names a worker after its current task.
    usage.peak_bytes = max(usage.peak_bytes, used)
    usage.cpu_s = times.user + times.system
    return used


def megabytes(size: int) -> str:
    """``1234567890`` as ``1,235 MB``."""
    return f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()

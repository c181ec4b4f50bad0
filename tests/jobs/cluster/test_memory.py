"""With glibc, a process keeps the memory that it frees."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

from jobs.cluster.cpu_environment import cpu_environment

PROGRAM = """
import resource, sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from jobs.cluster.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(int(sys.argv[2]) * 2**17) for _ in range(4)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def measure():
    return faults(), sum(faults() for _ in range(10)) / 10

print(*(measure() if sys.argv[3] == "main" else ThreadPoolExecutor(1).submit(measure).result()))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def page_faults(
    how: str, megabytes: int, thread: str = "main", environment: Mapping[str, str] | None = None
) -> list[float]:
    """Returns the page faults of the first allocations, and their mean number for the same allocations later."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, how, str(megabytes), thread]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=own | dict(environment or {}))
    return [float(number) for number in done.stdout.split()]


@pytest.mark.parametrize("megabytes", [8, 64])
@pytest.mark.parametrize("how", ["keep", "leave"])
def test_freed_memory_is_used_again_without_page_faults(how: str, megabytes: int) -> None:
    first, again = page_faults(how, megabytes)
    assert first > 0
    assert again < first / 100 if how == "keep" else again > first / 2


@pytest.mark.parametrize("environment", [cpu_environment(), {}])
def test_with_the_environment_for_cpus_memory_that_another_thread_has_freed_is_also_used_again(
    environment: dict[str, str],
) -> None:
    first, again = page_faults("keep", 48, "other", environment)
    assert first > 0
    assert again < first / 100 if environment else again > first / 4

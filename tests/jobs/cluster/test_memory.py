"""With glibc, a process keeps the memory that it frees."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from jobs.cluster.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(int(sys.argv[2]) * 2**17) for _ in range(4)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
print(first, sum(faults() for _ in range(10)) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("megabytes", [8, 64])
@pytest.mark.parametrize("how", ["keep", "leave"])
def test_freed_memory_is_used_again_without_page_faults(how: str, megabytes: int) -> None:
    command = [sys.executable, "-c", PROGRAM, how, str(megabytes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    first, again = map(float, done.stdout.split())
    assert first > 0
    assert again < first / 100 if how == "keep" else again > first / 2

"""What each worker of a lean Ray imports at once: all that decoding takes, and all that models take but PyTorch.

A worker that cannot import it goes on, and says what is wrong when it has something to do.
"""

import contextlib
import os
from importlib import import_module

from jobs.uncollected import uncollected

# As Ray sets it for a task of less than two CPUs, but only before its first one. Whoever computes in more threads says
# so; NumPy and Arrow would make one for each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

with uncollected(), contextlib.suppress(Exception):
    for name in ("ray.data", "jobs.decoding", "jobs.prediction"):
        import_module(name)

"""What each worker of a lean Ray imports at once: all that decoding takes, and all that models take but PyTorch.

A worker that cannot import it goes on, and says what is wrong when it has something to do.
"""

from importlib import import_module

from jobs.uncollected import uncollected

with uncollected():
    for name in ("ray.data", "jobs.decoding", "jobs.prediction"):
        import_module(name)

"""Loads programs without looking for garbage in them."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Nobody looks for garbage meanwhile, nor later in what is there at the end, until ``gc.unfreeze()``.

    Python looks whenever some hundreds of objects have been made. While Ray Data and PyTorch are imported, hardly any
    is garbage, and looking takes a fifth of the time. For the workers of a job, not for a program that goes on with
    something else; for one thread at a time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()

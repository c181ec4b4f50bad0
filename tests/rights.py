"""Gives up the rights of root for a while, to try what another user sees."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65534
"""A user id without rights."""


@contextmanager
def without_rights() -> Iterator[None]:
    """Gives up the rights of root inside the block, if this process has them."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)

"""What differs between the versions of Ray that vtag supports. Goes when Ray 2.64 is the oldest of them."""

from importlib.metadata import version
from typing import Any

HAS_REMOTE_ARGUMENTS = tuple(map(int, version("ray").split(".")[:2])) < (2, 64)
"""Whether ``Dataset.map_batches`` takes options of tasks and actors. Ray 2.60 says that 2.64 will not, and has no other
way yet; then Ray Data's own defaults hold, by which a task is done again without end."""


def retries(**options: int) -> dict[str, Any]:
    """``options`` of tasks or actors that bound how often work is done again, for ``map_batches``."""
    return dict(options) if HAS_REMOTE_ARGUMENTS else {}

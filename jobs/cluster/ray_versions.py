"""Differences between the supported versions of Ray. To be removed when Ray 2.64 is the oldest of them."""

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

HAS_REMOTE_ARGUMENTS = tuple(map(int, version("ray").split(".")[:2])) < (2, 64)
"""True if ``Dataset.map_batches`` takes options of tasks and actors. Ray 2.60 announces that Ray 2.64 removes
these options, without a replacement. Ray Data then retries a task without limit."""


def avoiding(nodes: Collection[str]) -> dict[str, Any]:
    """Returns options for ``map_batches`` that keep its tasks off the nodes with these ids, if it takes options."""
    return {"label_selector": _selector(nodes)} if nodes and HAS_REMOTE_ARGUMENTS else {}


def avoid_in_all_steps(nodes: Collection[str]) -> None:
    """Keeps the tasks and actors of data sets that are made from now on off these nodes, if ``avoiding`` cannot."""
    if not HAS_REMOTE_ARGUMENTS:
        from ray.data import DataContext

        options: Any = DataContext.get_current().execution_options
        options.label_selector = _selector(nodes) if nodes else None


def _selector(nodes: Collection[str]) -> dict[str, str]:
    return {"ray.io/node-id": f"!in({','.join(sorted(nodes))})"}


def retries(**options: int) -> dict[str, Any]:
    """Returns ``options`` for ``map_batches`` that limit the retries of tasks or actors, if it takes options."""
    return dict(options) if HAS_REMOTE_ARGUMENTS else {}

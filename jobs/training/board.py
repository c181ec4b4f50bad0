"""A board on which processes all over a cluster post what they have to tell, and one reads it."""

from typing import Any

from jobs.cluster.nodes import here


def open_board() -> Any:
    """The handle of an actor that is a ``Board``, on this machine: were it lost with another, so were the reader.

    Needs a running Ray.
    """
    import ray

    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here()).remote()


class Board:
    """What was posted and not taken yet."""

    def __init__(self) -> None:
        self._posted: list[tuple[str, object]] = []

    def post(self, what: str, value: object) -> None:
        """Posts ``value``."""
        self._posted.append((what, value))

    def take(self) -> list[tuple[str, object]]:
        """What was posted since the last time."""
        posted, self._posted = self._posted, []
        return posted

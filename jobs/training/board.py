"""A message board: processes on all machines of a cluster post events, and one process reads them."""

from typing import Any

from jobs.cluster.nodes import on_this_node


def open_board() -> Any:
    """Starts a ``Board`` as an actor and returns its handle. Needs a running Ray.

    The actor runs on this machine, so that the loss of another machine does not end the training.
    """
    import ray

    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=on_this_node()).remote()


class Board:
    """Events that were posted and not taken yet."""

    def __init__(self) -> None:
        self._posted: list[tuple[str, object]] = []

    def post(self, name: str, value: object) -> None:
        """Posts an event."""
        self._posted.append((name, value))

    def take(self) -> list[tuple[str, object]]:
        """Returns the events that were posted since the last call."""
        posted, self._posted = self._posted, []
        return posted

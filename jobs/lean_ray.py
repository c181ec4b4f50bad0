"""Leaves out what Ray starts beside every job and nobody has a use for when the job runs on this machine alone.

These are five Python processes, each of which takes half a second to a second of a core while the models start, and
wakes up from then on. Ray has no settings for them. So its own functions are put aside for the while, where the
installed Ray has what is known here; otherwise it starts everything.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

ASKED_OF_COORDINATOR = {"request_resources", "cancel_request", "get_reserved_resources"}
"""What Ray Data asks the one for who shares out a cluster. One who is asked for more is left alone."""


@contextlib.contextmanager
def put_aside(owner: Any, **replacements: Any) -> Iterator[None]:
    """Replaces attributes of ``owner``, a class or a module, for the while; those that it does not have are left out.

    For what Ray has no setting for.
    """
    kept = {name: vars(owner)[name] for name in replacements if name in vars(owner)}
    for name in kept:
        setattr(owner, name, replacements[name])
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


def do_nothing(*_: object, **__: object) -> None:
    """Takes anything."""


@contextlib.contextmanager
def without_services() -> Iterator[None]:
    """While ``ray.init`` starts a Ray: without dashboard, autoscaler, and the one that passes on what workers print.

    It waits for the dashboard, which it starts even when told that there is to be none.
    """
    from ray._private.node import Node

    with put_aside(Node, start_api_server=do_nothing, start_monitor=do_nothing, start_log_monitor=do_nothing):
        yield


@contextlib.contextmanager
def without_helpers() -> Iterator[None]:
    """While Ray Data works: without its actor that keeps figures for the dashboard, and the one that shares out a
    cluster among data sets and asks for more machines. There is one machine, and all of it is for one data set.
    """
    from ray.data._internal import stats
    from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaler

    updates = ("register_dataset_to_stats_actor", "update_execution_metrics", "update_iteration_metrics")
    with contextlib.ExitStack() as stack:
        stack.enter_context(put_aside(stats._StatsManager, **dict.fromkeys(updates, staticmethod(do_nothing))))
        if autoscaler.AutoscalingCoordinator.__abstractmethods__ == ASKED_OF_COORDINATOR:
            stack.enter_context(put_aside(autoscaler, DefaultAutoscalingCoordinator=_WholeMachine))
        yield


class _WholeMachine:
    """Ray Data's AutoscalingCoordinator for one data set on a machine that never changes."""

    def __init__(self, *_: object, **__: object):
        import ray

        self._resources = {"this machine": ray.cluster_resources()}

    request_resources = do_nothing
    cancel_request = do_nothing

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        return self._resources

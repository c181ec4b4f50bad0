"""Leaves out what Ray starts beside every job and nobody has a use for when the job runs on this machine alone.

These are five Python processes, each of which takes half a second to a second of a core while the models start, and
wakes up from then on. Ray has no settings for them. So its own functions are put aside for the while, where the
installed Ray has what is known here; otherwise it starts everything.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

ASKED_OF_COORDINATOR = {"request_resources", "cancel_request", "get_reserved_resources"}
"""What Ray Data asks the one for who shares out a cluster. One who is asked for more is left alone."""

NODE_S = 10.0
"""How long to look for a raylet that starts. Then Ray looks, gives up after half a minute, and has words for it."""


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

    It waits for the dashboard, which it starts even when told that there is to be none. Not for Ray Train: it asks the
    dashboard about its own processes, and waits for twelve seconds for an answer.
    """
    from ray._private.node import Node

    with put_aside(Node, start_api_server=do_nothing, start_monitor=do_nothing, start_log_monitor=do_nothing):
        yield


@contextlib.contextmanager
def without_delay() -> Iterator[None]:
    """While ``ray.init`` starts a Ray: it goes on as soon as its raylet is there. By itself it looks once a second."""
    from ray._private import services

    look = services.get_node

    def get_node(gcs_address: str, node_id: str) -> Any:
        _await_node(gcs_address, node_id)
        return look(gcs_address, node_id)

    with put_aside(services, get_node=get_node):
        yield


def _await_node(gcs_address: str, node_id: str) -> None:
    """Waits until Ray's control service knows a machine, or for NODE_S."""
    from ray._private.services import _get_gcs_client_options
    from ray._private.state import GlobalState

    state = GlobalState()
    state._initialize_global_state(_get_gcs_client_options(gcs_address))
    deadline_s = time.monotonic() + NODE_S
    while all(node["NodeID"] != node_id for node in state.node_table()) and time.monotonic() < deadline_s:
        time.sleep(0.02)


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

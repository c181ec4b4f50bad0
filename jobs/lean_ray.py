"""Leaves out what Ray starts beside every job and what nobody needs when the job runs on this machine alone.

These are six Python processes. Each takes half a second to a second of a core while the models start (2 cores of a
Zen 4), and wakes up again and again from then on. Ray has no settings for them, so its own functions are put aside
for the while. The project is bound to the version of Ray whose functions these are.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

NODE_S = 10.0
"""How long to look for a raylet that starts. Then Ray looks, gives up after half a minute, and has words for it."""

NO_DASHBOARD = b"127.0.0.1:1"
"""An address at which nobody answers."""


@contextlib.contextmanager
def put_aside(owner: Any, **replacements: Any) -> Iterator[None]:
    """Replaces attributes of ``owner``, a class or a module, for the while."""
    kept = {name: vars(owner)[name] for name in replacements}
    for name, value in replacements.items():
        setattr(owner, name, value)
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

    ``ray.init`` starts a dashboard even when told that there is to be none, and waits until it is there. Not for Ray
    Train, which asks it about its own processes.
    """
    from ray._private.node import Node

    with put_aside(Node, start_api_server=_name_no_dashboard, start_monitor=do_nothing, start_log_monitor=do_nothing):
        yield


def _name_no_dashboard(node: Any, **_: object) -> None:
    """In place of starting a dashboard: gives Ray an address, for which some of its processes would wait for ever."""
    from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD

    node.get_gcs_client().internal_kv_put(
        DASHBOARD_ADDRESS.encode(), NO_DASHBOARD, True, namespace=KV_NAMESPACE_DASHBOARD
    )


@contextlib.contextmanager
def with_workers(needed: Callable[[float, float], int]) -> Iterator[None]:
    """While ``ray.init`` starts a Ray: all workers of a job are started at once, and no more.

    ``needed`` is how many that are on so many CPUs and GPUs. By itself Ray starts one for each CPU. As it then needs
    more, it starts one too many, and all while the first ones load their models.
    """
    from ray._private import services
    from ray._private.node import Node

    start_raylet, start = Node.start_raylet, services.start_ray_process

    def start_raylet_with_workers(node: Any, *args: Any, **kwargs: Any) -> None:
        resources = node.get_resource_and_label_spec()
        count = needed(resources.num_cpus, resources.num_gpus or 0)
        flags = [f"--num_prestart_python_workers={count}", f"--maximum_startup_concurrency={count}"]

        def start_ray_process(command: list[str], *args: Any, **kwargs: Any) -> Any:
            # The last of two flags of the same name counts.
            return start([*command, *flags], *args, **kwargs)

        with put_aside(services, start_ray_process=start_ray_process):
            start_raylet(node, *args, **kwargs)

    with put_aside(Node, start_raylet=start_raylet_with_workers):
        yield


@contextlib.contextmanager
def without_delay() -> Iterator[None]:
    """While ``ray.init`` starts a Ray: it goes on as soon as its raylet is there. By itself it looks once a second."""
    from ray._private import services

    look = services.get_node

    def get_node(gcs_address: str, node_id: str) -> Any:
        await_node(gcs_address, node_id)
        return look(gcs_address, node_id)

    with put_aside(services, get_node=get_node):
        yield


def await_node(gcs_address: str, node_id: str) -> bool:
    """Waits until Ray's control service knows a machine, or for NODE_S. Returns whether it does."""
    from ray._private.services import _get_gcs_client_options
    from ray._private.state import GlobalState

    state = GlobalState()
    state._initialize_global_state(_get_gcs_client_options(gcs_address))
    deadline_s = time.monotonic() + NODE_S
    while all(node["NodeID"] != node_id for node in state.node_table()):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def without_helpers() -> Iterator[None]:
    """While Ray Data works: without its actor that keeps figures for the dashboard, the one that shares out a cluster
    among data sets and asks for more machines, and the one that knows which actor is where. There is one machine, and
    all of it is for one data set.
    """
    from ray.data._internal import stats
    from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaler
    from ray.data._internal.execution.operators import actor_pool_map_operator as actor_pool

    updates = ("register_dataset_to_stats_actor", "update_execution_metrics", "update_iteration_metrics")
    with (
        put_aside(stats._StatsManager, **dict.fromkeys(updates, staticmethod(do_nothing))),
        put_aside(autoscaler, DefaultAutoscalingCoordinator=WholeMachine),
        # An actor stays where it is as long as nobody has heard of another place.
        put_aside(actor_pool, get_or_create_actor_location_tracker=NoTracker, get_actor_locations=lambda actors: {}),
    ):
        yield


class WholeMachine:
    """Ray Data's AutoscalingCoordinator for one data set on a machine that never changes."""

    def __init__(self, *_: object, **__: object):
        import ray

        self._resources = {"this machine": ray.cluster_resources()}

    request_resources = do_nothing
    cancel_request = do_nothing

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        """All that there is, by machine."""
        return self._resources


class NoTracker:
    """In place of Ray Data's actor that knows which actor is where."""

    class update_actor_location:  # noqa: N801
        """Its method, as actors have methods."""

        remote = staticmethod(do_nothing)

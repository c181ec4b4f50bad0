"""Ray clusters for tests, whose machines are processes of this one. The process of the tests never joins them."""

import contextlib
from collections.abc import Iterator
from typing import Any

from jobs.cluster.ray_session import set_environment


@contextlib.contextmanager
def cluster(*cpus: int, **settings: Any) -> Iterator[Any]:
    """A cluster with a machine for each of ``cpus``; ``settings`` go to the first one."""
    set_environment()
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        for each in cpus:
            nodes.last = nodes.add_node(
                num_cpus=each, object_store_memory=200 * 2**20, include_dashboard=False, **settings
            )
            settings = {}
        yield nodes
    finally:
        nodes.shutdown()

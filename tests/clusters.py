"""Ray clusters for tests. Their nodes are child processes of the test process, which never joins a cluster itself."""

import contextlib
from collections.abc import Iterator
from typing import Any

from jobs.cluster.ray_session import set_environment


@contextlib.contextmanager
def cluster(*cpus: int, **settings: Any) -> Iterator[Any]:
    """A cluster with a node for each number of CPUs in ``cpus``; ``settings`` go to the first node."""
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

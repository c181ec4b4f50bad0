"""Checks that every node of a cluster has the same version of vtag and sees the local paths."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tagger
from jobs.errors import JobError
from jobs.storage.address import is_address

SAMPLE_PATHS = 12
"""Number of local paths that every node must see: the first, the last, and others evenly between."""

ANSWER_TIMEOUT_S = 120.0
"""Seconds to wait for an answer from a node. It starts a process for that, and may unpack an environment first."""


@dataclass(frozen=True)
class NodeAnswer:
    """The answer of a node: its address, its version of vtag, if it has one, and the paths that it cannot see.

    ``missing`` is None when the node did not answer.
    """

    address: str
    version: str | None = None
    missing: tuple[str, ...] | None = None


def this_node() -> str | None:
    """Returns the id of this node of the Ray cluster; None in a process without Ray."""
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else None


def decoding_nodes() -> set[str]:
    """Returns the ids of the nodes that can decode and have not left the cluster. Needs a running Ray."""
    import ray

    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}


def nodes_where(question: Callable[[str], bool], name: str, nodes: Iterable[str]) -> set[str]:
    """Calls ``question(name)`` on each of the ``nodes`` at the same time, and returns those that answer True.

    A node that does not answer in time, or that leaves the cluster, is not among them. Needs a running Ray.
    """
    import ray
    from ray.exceptions import RayError

    def answer(raw: bytes) -> bool:
        return question(os.fsdecode(raw))

    task = ray.remote(num_cpus=0, max_retries=1)(answer)
    requests = {task.options(scheduling_strategy=_only_on(node)).remote(os.fsencode(name)): node for node in nodes}
    if not requests:
        return set()
    ready, _ = ray.wait(list(requests), num_returns=len(requests), timeout=ANSWER_TIMEOUT_S)
    found = set()
    for reference in ready:
        with contextlib.suppress(RayError):
            if ray.get(reference):
                found.add(requests[reference])
    return found


def on_this_node() -> Any:
    """Returns the scheduling strategy of tasks and actors that must run on this node. Needs a running Ray."""
    import ray

    return _only_on(ray.get_runtime_context().get_node_id())


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def check_nodes(paths: Iterable[str]) -> None:
    """Raises JobError when a node with a CPU or GPU lacks this version of vtag, or does not see the local ``paths``.

    Asks all nodes at the same time. A node that leaves the cluster is left out. The error is one line for all nodes.
    Needs a running Ray; does nothing when Ray runs on a single node.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1:
        working = [node for node in nodes if node["Resources"].get("CPU") or node["Resources"].get("GPU")]
        problem = find_problem(_ask(working, _sample(paths)))
        if problem:
            raise JobError(problem)


def find_problem(answers: Sequence[NodeAnswer]) -> str | None:
    """Describes what is wrong with the nodes, and what to do; None when nothing is wrong."""
    silent = [answer.address for answer in answers if answer.missing is None]
    if silent:
        return f"{_names(silent)} of the cluster did not answer within {ANSWER_TIMEOUT_S:g} s; see `ray status`"
    others = [answer for answer in answers if answer.version != tagger.__version__]
    if others:
        found = sorted({answer.version or "none" for answer in others})
        return (
            f"vtag {tagger.__version__} is not installed on {_names([answer.address for answer in others])} "
            f"(found: {', '.join(found)}); install the same version on every machine of the cluster"
        )
    blind = [answer for answer in answers if answer.missing]
    if blind:
        assert blind[0].missing
        return (
            f"{blind[0].missing[0]} cannot be seen from {_names([answer.address for answer in blind])} of the cluster; "
            "share the folder at the same place on every machine; vtag run also reads videos from a bucket (s3://…)"
        )
    return None


def _sample(paths: Iterable[str]) -> list[str]:
    """Returns some local paths that exist on this node."""
    local = [path for path in paths if not is_address(path)]
    count = min(SAMPLE_PATHS, len(local))
    sample = [local[i * (len(local) - 1) // max(1, count - 1)] for i in range(count)]
    return [path for path in sample if Path(path).exists()]


def _ask(nodes: Sequence[dict], paths: Sequence[str]) -> list[NodeAnswer]:
    import ray
    from ray.exceptions import RayError

    names = [os.fsencode(path) for path in paths]
    probe = ray.remote(num_cpus=0, max_retries=1)(_make_probe())
    requests = {probe.options(scheduling_strategy=_only_on(node["NodeID"])).remote(names): node for node in nodes}
    ready, _ = ray.wait(list(requests), num_returns=len(requests), timeout=ANSWER_TIMEOUT_S)
    answers = []
    for reference, node in requests.items():
        address = node["NodeManagerAddress"]
        if reference not in ready:
            answers.append(NodeAnswer(address))
            continue
        try:
            version, missing = ray.get(reference)
        except RayError:
            # The node has left the cluster. The job runs without it, as it would if the node left later.
            continue
        answers.append(NodeAnswer(address, version, tuple(os.fsdecode(name) for name in missing)))
    return answers


def _make_probe() -> Callable[[list[bytes]], tuple[str | None, list[bytes]]]:
    """Returns the function that checks a node. It is nested, so that Ray sends its code: the node may have no vtag."""

    def probe(names: list[bytes]) -> tuple[str | None, list[bytes]]:
        import os.path

        try:
            import tagger

            version = tagger.__version__
        except ImportError:
            version = None
        return version, [name for name in names if not os.path.exists(name)]  # noqa: PTH110 - bytes

    return probe


def _names(addresses: Sequence[str]) -> str:
    shown = sorted(set(addresses))
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")

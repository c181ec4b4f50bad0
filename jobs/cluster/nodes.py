"""Whether every machine of a cluster can do its part: it has the same vtag, and sees the local paths."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tagger
from jobs.archive.video import Video
from jobs.errors import JobError
from jobs.storage.address import is_address

SAMPLE = 12
"""Local paths that are looked for on every machine: the first, the last, and others evenly between."""

ANSWER_S = 120.0
"""How long a machine may take to answer. It starts a process for it, perhaps with an environment to be unpacked."""


@dataclass(frozen=True)
class NodeAnswer:
    """What the machine at an address says: its version of vtag, if it has one, and the paths that it cannot see.

    ``missing`` is None when it did not answer.
    """

    address: str
    version: str | None = None
    missing: tuple[str, ...] | None = None


def here() -> Any:
    """The scheduling strategy of what is to run on this machine, and nowhere else. Needs a running Ray."""
    import ray

    return _only_on(ray.get_runtime_context().get_node_id())


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def check_nodes(videos: Sequence[Video]) -> None:
    """Raises JobError, in one line for all machines, when one that would work has no vtag of this version or no videos.

    Asks all machines at the same time; one that goes away is left out. Needs a running Ray; does nothing
    where that is this machine alone.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1:
        working = [node for node in nodes if node["Resources"].get("CPU") or node["Resources"].get("GPU")]
        problem = find_problem(_ask(working, _sample(videos)))
        if problem:
            raise JobError(problem)


def find_problem(answers: Sequence[NodeAnswer]) -> str | None:
    """What is wrong with the machines, and what to do; None when nothing is."""
    silent = [answer.address for answer in answers if answer.missing is None]
    if silent:
        return f"{_names(silent)} of the cluster did not answer within {ANSWER_S:g} s; see `ray status`"
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
            "share the folder at the same place on every machine, or keep the videos in a bucket (s3://…)"
        )
    return None


def _sample(videos: Sequence[Video]) -> list[str]:
    """Some local paths at which there is something, seen from here."""
    paths = [video.path for video in videos if not is_address(video.path) and video.size]
    count = min(SAMPLE, len(paths))
    sample = [paths[i * (len(paths) - 1) // max(1, count - 1)] for i in range(count)]
    return [path for path in sample if Path(path).exists()]


def _ask(nodes: Sequence[dict], paths: Sequence[str]) -> list[NodeAnswer]:
    import ray
    from ray.exceptions import RayError

    names = [os.fsencode(path) for path in paths]
    look = ray.remote(num_cpus=0, max_retries=1)(_looking())
    asked = {look.options(scheduling_strategy=_only_on(node["NodeID"])).remote(names): node for node in nodes}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    answers = []
    for reference, node in asked.items():
        address = node["NodeManagerAddress"]
        if reference not in ready:
            answers.append(NodeAnswer(address))
            continue
        try:
            version, missing = ray.get(reference)
        except RayError:
            # The machine is gone. Work goes on without it, as it would later.
            continue
        answers.append(NodeAnswer(address, version, tuple(os.fsdecode(name) for name in missing)))
    return answers


def _looking() -> Callable[[list[bytes]], tuple[str | None, list[bytes]]]:
    """The function that looks. Made here, so that it travels as a whole: where it goes there may be no vtag."""

    def look(names: list[bytes]) -> tuple[str | None, list[bytes]]:
        import os.path

        try:
            import tagger

            version = tagger.__version__
        except ImportError:
            version = None
        return version, [name for name in names if not os.path.exists(name)]  # noqa: PTH110 - bytes

    return look


def _names(addresses: Sequence[str]) -> str:
    shown = sorted(set(addresses))
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")

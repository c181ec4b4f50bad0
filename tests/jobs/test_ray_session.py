"""A Ray that ends leaves the process as it was."""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.lean_ray import do_nothing, put_aside
from jobs.uncollected import uncollected
from tests.videos import encode

PROGRAM = """
import time
from jobs.ray_session import ray_session

with ray_session(cpus=1):
    import ray.data
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

    step = StreamingExecutor._scheduling_loop_step

    def slowly(self, *args):
        goes_on = step(self, *args)
        if told:
            time.sleep(6)
            # As in the middle of ray.wait(): after the shutdown this ends the process.
            core_worker.get_worker_id()
        return goes_on

    told = []
    core_worker = ray._private.worker.global_worker.core_worker
    StreamingExecutor._scheduling_loop_step = slowly
    rows = iter(ray.data.range(1000, override_num_blocks=100).map(lambda row: row).iter_rows())
    next(rows)
    told.append(True)
    time.sleep(0.5)
    rows.close()
time.sleep(6)
print("the end")
"""


@pytest.mark.slow
def test_a_thread_of_ray_data_that_is_slow_to_stop_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "the end\n")


@pytest.mark.slow
def test_workers_that_have_nothing_to_do_for_a_while_are_kept(tmp_path: Path) -> None:
    program = """
import os, sys, time
from pathlib import Path
from jobs.ray_session import ray_session

with ray_session(cpus=1):
    import ray

    @ray.remote(num_cpus=0.25)
    def name(folder):
        # Each in a worker of its own, for all have to be there.
        (Path(folder) / str(os.getpid())).touch()
        while len(os.listdir(folder)) < 4:
            time.sleep(0.05)
        return os.getpid()

    rounds = []
    for folder in sys.argv[1:]:
        rounds.append(set(ray.get([name.remote(folder) for _ in range(4)])))
        time.sleep(6)
    print(len(rounds[0] & rounds[1]))
"""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    command = [sys.executable, "-c", program, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.stdout.strip() in {"3", "4"}, done.stdout + done.stderr


@pytest.mark.slow
def test_no_process_of_ray_is_left_when_its_raylet_had_to_be_killed() -> None:
    program = """
import psutil, time
from jobs.ray_session import ray_session
from ray._private.node import Node

with ray_session(cpus=1):
    # Agents that are still starting would end at once.
    time.sleep(5)
    started = psutil.Process().children(recursive=True)
    agents = [process for process in started if process.name().endswith("Agent")]
    # As after the second that Ray gives it, which is too short on a busy machine.
    kill = Node.kill_all_processes
    killed = []

    def kill_at_once(node, *_, **__):
        killed.append(node)
        kill(node, check_alive=False, allow_graceful=False)

    Node.kill_all_processes = kill_at_once
# Ray's agents would live for another minute.
_, alive = psutil.wait_procs(started, timeout=10)
left = [process.name() for process in alive if process.status() != psutil.STATUS_ZOMBIE]
print(len(agents), len(killed), left)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180)
    assert done.stdout.strip() == "2 1 []", done.stdout + done.stderr


@pytest.mark.slow
def test_for_ray_data_alone_a_ray_comes_without_what_only_a_cluster_or_a_dashboard_needs() -> None:
    program = """
import json, sys
import psutil
from jobs import lean_ray
from jobs.ray_session import ray_session

SERVICES = ["dashboard.py", "log_monitor.py", "/monitor.py"]

class Double:
    def __call__(self, batch):
        return {"id": batch["id"] * 2}

def modules():
    return "jobs.decoding" in sys.modules, "torch" in sys.modules

for lean, verbose in ((True, True), (False, False), (True, False)):
    with ray_session(cpus=2, lean=lean, verbose=verbose):
        import ray
        from ray.data import ActorPoolStrategy

        data = ray.data.range(40, override_num_blocks=10).map_batches(Double, compute=ActorPoolStrategy(size=2))
        rows = sum(row["id"] for row in data.iter_rows())
        processes = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
        classes = {actor["ActorClassName"] for actor in ray._private.state.actors().values()}
        found = {
            "rows": rows,
            "services": [service for service in SERVICES if any(service in line for line in processes)],
            "helpers": sorted(name for name in classes if not name.startswith("MapWorker")),
            "imported": ray.get(ray.remote(modules).options(num_cpus=0).remote()),
        }
        context = ray.get_runtime_context()
        lean_ray.NODE_S = 0.1
        found["nodes"] = [lean_ray.await_node(context.gcs_address, node) for node in (context.get_node_id(), "0" * 56)]
        print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    verbose, full, lean = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"rows"')]
    assert verbose == full
    assert full == {
        "rows": 1560,
        "services": ["dashboard.py", "log_monitor.py", "/monitor.py"],
        "helpers": ["ActorLocationTracker", "_AutoscalingCoordinatorActor", "_StatsActor"],
        "imported": [False, False],
        # What is waited for while Ray starts is found, and a wait for what is not there ends.
        "nodes": [True, False],
    }
    # Decoders do without PyTorch, which takes half a gigabyte.
    assert lean == full | {"services": [], "helpers": [], "imported": [True, False]}


@pytest.mark.slow
@pytest.mark.parametrize(("videos", "workers"), [(8, 4), (1, 3)])
def test_a_lean_ray_starts_all_workers_of_a_job_at_once_and_no_more(
    videos: int, workers: int, tmp_path: Path, model_file: Path
) -> None:
    clips = [str(encode(tmp_path / f"{i}.mp4", seconds=3, rate=10)) for i in range(videos)]
    program = f"""
import os, time
from pathlib import Path
from jobs.job import Video
from jobs.pipeline import choose_workers, tag_videos
from jobs.ray_session import ray_session
from tagger import find_model

videos = [Video(path, os.path.getsize(path), os.stat(path).st_mtime_ns) for path in {clips!r}]

def started():
    # Each worker that there ever was has a log.
    return len(list(Path(ray._private.worker._global_node.get_logs_dir_path()).glob("worker-*.out")))

with ray_session(cpus=2, lean=True, workers=lambda cpus, gpus: int(cpus) + min(int(cpus), len(videos))) as session:
    import ray

    deadline_s = time.monotonic() + 60
    while started() < {workers} and time.monotonic() < deadline_s:
        time.sleep(0.02)
    before = started()
    source = find_model({str(model_file)!r})
    tables = tag_videos(videos, source, source.info.sampling, choose_workers(session.cpus, 0), top_k=1)
    ends = sum(table["end"].drop_null().length() for table in tables)
    print(before, started(), ends)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert done.stdout == f"{workers} {workers} {videos}\n", done.stdout + done.stderr


@pytest.mark.slow
def test_one_data_set_on_one_machine_is_given_what_ray_would_give_it() -> None:
    program = """
import json, time
from jobs.lean_ray import WholeMachine
from jobs.ray_session import ray_session

with ray_session(cpus=2):
    from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import STANDARD_RESOURCE_TYPES
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import DefaultAutoscalingCoordinator

    given = []
    for coordinator in (DefaultAutoscalingCoordinator("a data set"), WholeMachine("a data set")):
        coordinator.request_resources([{"CPU": 1}], expire_after_s=60, request_remaining=STANDARD_RESOURCE_TYPES)
        while not (reserved := coordinator.get_reserved_resources()):
            time.sleep(0.05)
        (machine,) = reserved.values()
        given.append({name: machine.get(name, 0) for name in STANDARD_RESOURCE_TYPES})
    print(json.dumps(given))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    by_ray, by_us = json.loads(done.stdout)
    assert by_ray["CPU"] == 2
    assert by_us == pytest.approx(by_ray)


@pytest.mark.slow
def test_what_cannot_be_imported_beside_ray_is_told_by_whoever_needs_it() -> None:
    program = """
import sys
sys.modules["ray.data"] = None
from jobs.ray_session import ray_session
with ray_session(cpus=1):
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "import of ray.data halted" in done.stderr.splitlines()[-1]


def test_nobody_looks_for_garbage_while_programs_are_loaded() -> None:
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            loaded: list[Any] = []
            loaded.append(loaded)
        assert not gc.isenabled()
    assert gc.isenabled()
    assert not any(loaded is found for found in gc.get_objects())
    gc.unfreeze()


def test_what_is_put_aside_comes_back() -> None:
    class Owner:
        @staticmethod
        def says() -> str:
            return "something"

    with pytest.raises(ValueError), put_aside(Owner, says=do_nothing):
        assert Owner().says() is None
        raise ValueError
    assert Owner().says() == "something"

"""A Ray that ends leaves the process as it was."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.lean_ray import do_nothing, put_aside

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
import psutil
from jobs import lean_ray
from jobs.ray_session import ray_session

SERVICES = ["dashboard.py", "log_monitor.py", "/monitor.py"]
HELPERS = ["_StatsActor", "_AutoscalingCoordinatorActor"]

class Double:
    def __call__(self, batch):
        return {"id": batch["id"] * 2}

for lean, verbose in ((True, True), (False, False), (True, False)):
    with ray_session(cpus=2, lean=lean, verbose=verbose):
        import ray
        from ray.data import ActorPoolStrategy

        data = ray.data.range(40, override_num_blocks=10).map_batches(Double, compute=ActorPoolStrategy(size=1))
        rows = sum(row["id"] for row in data.iter_rows())
        processes = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
        actors = {actor["ActorClassName"] for actor in ray._private.state.actors().values()}
        services = [service for service in SERVICES if any(service in line for line in processes)]
        print("found", rows, services == SERVICES, actors >= set(HELPERS), services, sorted(actors & set(HELPERS)))
        context = ray.get_runtime_context()
        lean_ray.NODE_S = 0.1
        print("node", *(lean_ray.await_node(context.gcs_address, node) for node in (context.get_node_id(), "0" * 56)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    verbose, full, lean = [line for line in done.stdout.splitlines() if line.startswith("found")]
    assert verbose.startswith("found 1560 True True") and full == verbose, done.stdout + done.stderr
    assert lean == "found 1560 False False [] []"
    # What is waited for while Ray starts is found.
    assert done.stdout.count("node True False") == 3


def test_what_is_put_aside_comes_back() -> None:
    class Owner:
        @staticmethod
        def says() -> str:
            return "something"

    with pytest.raises(ValueError), put_aside(Owner, says=do_nothing):
        assert Owner().says() is None
        raise ValueError
    assert Owner().says() == "something"

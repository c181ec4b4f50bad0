"""The state of a running job: what came back, what is committed, and the progress that it reports."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from jobs.archive.video import Failure
from jobs.cluster.ray_driver import RayDriver
from jobs.tagging.collector import Collector, FinishedVideo, TimeSpent
from jobs.tagging.committer import Committer
from jobs.tagging.pipeline import DECODING_GPU_SHARE, Workers
from jobs.tagging.plan import Plan
from jobs.tagging.summary import Efficiency, Phase, Progress

MIN_EFFICIENCY_S = 10.0
"""Minimum time in seconds over which the efficiency of a job is measured. Work in progress at the start of that time
counts in full, which distorts a shorter measurement."""


@dataclass
class JobState:
    """The state of a running job. Its methods report progress.

    ``workers`` and ``began_s`` are None until the workers are chosen, ``first_row_s`` until the first rows come back.
    ``started_s``, ``began_s``, ``first_row_s`` and ``reported_s`` are times on the monotonic clock; ``tagging_s`` is a
    duration. All are in seconds.
    """

    plan: Plan
    on_progress: Callable[[Progress], None]
    driver: RayDriver | None = None
    started_s: float = field(default_factory=time.monotonic)
    workers: Workers | None = None
    began_s: float | None = None
    first_row_s: float | None = None
    efficiency: Efficiency | None = None
    tagging_s: float = 0.0
    done: int = 0
    committer: Committer | None = None
    failed: int = 0
    last_failure: Failure | None = None
    reported_s: float = 0.0

    def __post_init__(self) -> None:
        self.collector = Collector(self.plan.todo)
        self.pruning = self.plan.pruning

    def report(self, phase: Phase | None = None) -> None:
        """Reports the progress of the job. Without ``phase``, the job is starting or tagging."""
        now = self.reported_s = time.monotonic()
        busy = (0.0, 0.0)
        if self.workers is not None and self.first_row_s is not None:
            passed_s = max(now - self.first_row_s, 1e-3)
            decode = self.collector.spent.decode_s / (self.workers.decoders * passed_s)
            predict = self.collector.spent.predict_s / (self.workers.actors * passed_s)
            # Work in progress when the first row came back counts in full, so a share may exceed 1.
            busy = (min(decode, 1.0), min(predict, 1.0))
        self.on_progress(
            Progress(
                phase=phase or ("starting" if self.first_row_s is None else "tagging"),
                videos_total=len(self.plan.videos),
                videos_kept=len(self.plan.videos) - len(self.plan.todo),
                videos_done=self.done,
                videos_failed=self.failed,
                video_s=self.collector.video_s,
                windows=self.collector.windows,
                elapsed_s=now - self.started_s,
                decode_busy=busy[0],
                predict_busy=busy[1],
                last_failure=self.last_failure,
            )
        )

    def collect(self, table: pa.Table) -> list[FinishedVideo]:
        """Takes rows that came back and returns the videos that they complete. Reports progress at the first rows."""
        finished = self.collector.add(table)
        if self.first_row_s is None:
            self.first_row_s, self.collector.spent = time.monotonic(), TimeSpent(since=time.time())
            self.report()
        elif (passed_s := time.monotonic() - self.first_row_s) >= MIN_EFFICIENCY_S:
            self.efficiency = self._efficiency(passed_s)
        return finished

    def _efficiency(self, passed_s: float) -> Efficiency:
        workers, spent = self.workers, self.collector.spent
        assert workers is not None
        # Several actors on a GPU take turns, and wait for each other.
        gpus = workers.actors * workers.actor_gpus / (1 - DECODING_GPU_SHARE if workers.decoder_gpus else 1)
        return Efficiency(
            cores=workers.cores,
            decode=spent.decode_cpu_s / (workers.cores * passed_s),
            model=spent.predict_cpu_s / (workers.cores * passed_s),
            gpu=min(spent.predict_s / (gpus * passed_s), 1.0) if workers.device == "cuda" else None,
        )

    def note(self, video: FinishedVideo) -> None:
        """Counts a finished video and reports progress."""
        self.done += 1
        if video.failure is not None:
            self.failed += 1
            self.last_failure = video.failure
        self.report()

"""The state of a running job: what came back, what is committed, and the progress that it reports."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pyarrow as pa

from jobs.archive.gone import was_deleted
from jobs.archive.video import STORAGE_KINDS, Failure, video_name
from jobs.cluster.ray_driver import RayDriver
from jobs.tagging.finished.collector import Collector, FinishedVideo, TimeSpent
from jobs.tagging.finished.committer import Committer
from jobs.tagging.pipeline import DECODING_GPU_SHARE, Workers
from jobs.tagging.plan import Plan
from jobs.tagging.summary import Efficiency, Phase, Progress
from tagger.errors import one_line

MAX_TRIES = 3
"""Number of times that a job reads a video whose storage fails."""

MIN_EFFICIENCY_S = 10.0
"""Minimum time in seconds over which the efficiency of a job is measured. Work in progress at the start of that time
counts in full, which distorts a shorter measurement."""


@dataclass
class JobState:
    """The state of a running job. Its methods report progress.

    ``workers`` and ``began_s`` are None until the workers are chosen, ``first_row_s`` until the first rows come back.
    ``started_s``, ``began_s``, ``first_row_s`` and ``reported_s`` are times on the monotonic clock; ``comparing_s``,
    ``tagging_s`` and ``publishing_s`` are durations. All are in seconds.

    The content of ``unsure`` videos decides whether they are read, and that of ``compared`` ones is known.

    ``waiting`` are videos whose storage failed, and which will be read again. ``unsplit`` are the reasons why videos
    are not read in parts again, by their numbers, and ``failed_in_parts`` those that have not been read again.
    ``avoided`` are the ids of nodes that cannot reach the videos. ``kept_failures`` are failures that did not replace
    the earlier rows of the videos, and ``attempts_of_kept`` their attempts, by name, if the videos have not changed
    since.
    """

    plan: Plan
    on_progress: Callable[[Progress], None]
    driver: RayDriver | None = None
    keep_driver: bool = False
    started_s: float = field(default_factory=time.monotonic)
    workers: Workers | None = None
    began_s: float | None = None
    first_row_s: float | None = None
    efficiency: Efficiency | None = None
    tagging_s: float = 0.0
    publishing_s: float = 0.0
    unsure: int = 0
    compared: int = 0
    comparing_s: float = 0.0
    done: int = 0
    committer: Committer | None = None
    failed: int = 0
    last_failure: Failure | None = None
    reported_s: float = 0.0
    waiting: list[FinishedVideo] = field(default_factory=list)
    unsplit: dict[int, str] = field(default_factory=dict)
    failed_in_parts: list[FinishedVideo] = field(default_factory=list)
    avoided: set[str] = field(default_factory=set)
    kept_failures: list[Failure] = field(default_factory=list)
    attempts_of_kept: dict[str, int] = field(default_factory=dict)
    _tries: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.unsure = len(self.plan.changes.unsure)
        self.take_plan(self.plan)

    def take_plan(self, plan: Plan) -> None:
        """Goes on with a plan. Nothing has been read yet."""
        self.plan = plan
        self.collector = Collector(plan.todo)
        self.pruning = plan.pruning

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
                videos_kept=len(self.plan.videos) - len(self.plan.todo) - len(self.plan.changes.unsure),
                videos_unsure=self.unsure,
                videos_compared=self.compared,
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
        finished = [self.explained(video) for video in self.collector.add(table)]
        if self.first_row_s is None:
            self.first_row_s, self.collector.spent = time.monotonic(), TimeSpent(since=time.time())
            self.report()
        elif (passed_s := time.monotonic() - self.first_row_s) >= MIN_EFFICIENCY_S:
            self.efficiency = self._efficiency(passed_s)
        return finished

    def explained(self, video: FinishedVideo) -> FinishedVideo:
        """Adds the attempts of a video, and why it was not read in parts if that failed before."""
        end, choice = video.end, video.end.choice
        if choice is not None and (reason := self.unsplit.get(video.number)) is not None and video.parts == 1:
            reason = f"{choice.reason}; {reason}" if choice.reason else reason
            end = replace(end, choice=replace(choice, reason=reason))
        return replace(video, end=end, attempts=self._attempts(video))

    def _attempts(self, video: FinishedVideo) -> int:
        earlier = self.plan.changes.earlier.get(video_name(video.video.path))
        return 1 + (earlier.attempts if earlier else 0)

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

    def must_read_whole(self, video: FinishedVideo) -> bool:
        """Returns whether a video was read in parts, and some of them failed. One decoder will read all of it."""
        if video.parts == 1 or video.end.status == "ok":
            return False
        self.unsplit[video.number] = one_line(f"it is decoded whole: {video.end.error}")
        self.failed_in_parts.append(video)
        return True

    def take_failed_in_parts(self) -> list[int]:
        """Returns the numbers of the videos that are to be read whole, and forgets what was read of them."""
        taken, self.failed_in_parts = self.failed_in_parts, []
        for video in taken:
            self.collector.reopen(video)
        return sorted(video.number for video in taken)

    def postpone(self, video: FinishedVideo) -> bool:
        """Postpones a video whose storage failed, to be read again later. Returns whether it did."""
        if not _has_failed_storage(video):
            return False
        self._tries[video.number] += 1
        if self._tries[video.number] >= MAX_TRIES:
            return False
        self.waiting.append(video)
        return True

    def take_waiting(self) -> list[int]:
        """Returns the numbers of the videos that are to be read again, and forgets what was read of them."""
        for video in self.waiting:
            self.collector.reopen(video)
        numbers = sorted(video.number for video in self.waiting)
        self.waiting = []
        return numbers

    def keeps_earlier_rows(self, video: FinishedVideo) -> bool:
        """Returns whether the rows of a video in the result are better than those that came back, and stay.

        They stay when the storage failed, and when the same version of the video gave more segments before.
        """
        name = video_name(video.video.path)
        earlier = self.plan.changes.earlier.get(name)
        if video.failure is None or earlier is None or not earlier.segments:
            return False
        if video.failure.kind not in STORAGE_KINDS and not (
            earlier.attempts and earlier.segments > len(video.segments)
        ):
            return False
        self.kept_failures.append(replace(video.failure, path=name))
        if earlier.attempts:
            self.attempts_of_kept[name] = earlier.attempts + 1
        return True

    def note(self, video: FinishedVideo) -> None:
        """Counts a finished video and reports progress."""
        self.done += 1
        if video.failure is not None:
            self.failed += 1
            self.last_failure = video.failure
        self.report()


def _has_failed_storage(video: FinishedVideo) -> bool:
    """Checks whether the storage failed, not the video. A video that was listed and is missing may be out of reach."""
    if video.end.error_kind == "io":
        return True
    was_listed = bool(video.video.size or video.video.mtime_ns)
    return video.end.error_kind == "missing" and was_listed and not was_deleted(video.video.path)

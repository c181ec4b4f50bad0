"""What a job reports: its progress while it runs, and a summary at the end."""

from dataclasses import dataclass, field
from typing import Literal

from jobs.archive.video import Failure
from jobs.result.publish import LabelCount


@dataclass(frozen=True)
class Progress:
    """A snapshot of a running job, made whenever a video is finished and about once a second.

    ``videos_total`` are those of the inputs. ``videos_kept`` of them were finished before and are not done again; they
    do not count in ``videos_done``. ``decode_busy`` and ``predict_busy`` are the shares of time, 0 to 1, that the
    decoding workers and the model actors spent working since the first result.
    """

    phase: Literal["starting", "tagging", "publishing"]
    videos_total: int
    videos_kept: int = 0
    videos_done: int = 0
    videos_failed: int = 0
    video_s: float = 0.0
    windows: int = 0
    elapsed_s: float = 0.0
    decode_busy: float = 0.0
    predict_busy: float = 0.0
    last_failure: Failure | None = None


@dataclass(frozen=True)
class Efficiency:
    """How much of the hardware's time went into the work itself, from the first windows that came back to the last.

    ``decode`` and ``model`` are shares, 0 to 1, of the CPU time of ``cores``; ``gpu`` is the share of time in which
    model actors on GPUs were at work, None without GPUs.
    """

    cores: int
    decode: float
    model: float
    gpu: float | None = None

    @property
    def total(self) -> float:
        """The share of what limits the job, 0 to 1: the cores, or the GPUs when they are the busier."""
        return max(self.decode + self.model, self.gpu or 0.0)


@dataclass(frozen=True)
class Summary:
    """What a finished job did.

    ``videos``, ``ok``, ``partial``, ``failed``, ``segments``, ``video_s`` and ``top_labels`` are of the whole result.
    ``new``, ``changed`` and ``retried`` videos were read by this run, and ``failures`` are those of them that could not
    be, or only in part, together with what an interruption left. ``kept`` were as they are recorded, or only
    ``touched``: the same content at another time. ``gone`` are in the result but not in the inputs; ``pruned`` were
    removed for it. ``tagged_s`` is the length of the videos that this run read. ``efficiency`` is None when the run was
    too short to tell.
    """

    out: str
    videos_out: str
    model: str
    sampling: str
    videos: int
    ok: int
    partial: int
    failed: int
    new: int
    changed: int
    retried: int
    touched: int
    kept: int
    gone: int
    pruned: int
    video_s: float
    segments: int
    tagged_s: float
    windows_done: int
    elapsed_s: float
    tagging_s: float
    efficiency: Efficiency | None = None
    failures: tuple[Failure, ...] = field(default=())
    top_labels: tuple[LabelCount, ...] = field(default=())

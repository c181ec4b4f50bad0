"""The words of a tagging job: what is asked for, what is under way, what came out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tagger.errors import ErrorKind, VtagError


@dataclass(frozen=True, slots=True)
class Video:
    """A video of the archive, as it was listed: an absolute path or an address, and its version then.

    ``mtime_ns`` is its modification time in nanoseconds since 1970. Both are 0 when there was no such file.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Version:
    """Which content of a video was read: size in bytes, modification time in nanoseconds, fingerprint.

    ``fingerprint`` is None when the content could not be read.
    """

    size: int
    mtime_ns: int
    fingerprint: str | None


@dataclass(frozen=True)
class MaxFailures:
    """How many videos may fail, or be read only in part, before a job gives up.

    ``videos`` is a number of them, ``share`` a share of the videos done, which counts once there are ``AT_LEAST``.
    """

    videos: int | None = None
    share: float | None = None

    AT_LEAST: ClassVar[int] = 20

    def are_exceeded(self, failed: int, done: int) -> bool:
        """Whether ``failed`` out of ``done`` videos are too many."""
        if self.videos is not None and failed > self.videos:
            return True
        return self.share is not None and done >= self.AT_LEAST and failed > self.share * done

    def __str__(self) -> str:
        return f"{self.videos}" if self.share is None else f"{100 * self.share:g}%"


@dataclass(frozen=True)
class RunConfig:
    """What ``vtag run`` was asked to do. None means: chosen automatically.

    ``inputs`` are files, folders, globs, ``@list.txt`` or ``-``; ``out`` ending in ``.parquet`` is one file, anything
    else a folder of part files; both may be addresses such as ``s3://bucket/videos``. ``hop_s`` is the distance between
    window starts in seconds; ``fast_decode`` is that of Sampling. ``prune`` removes videos from the result that
    ``inputs`` do not have.
    """

    inputs: tuple[str, ...]
    out: str | Path
    model: str = "ucf20"
    weights: Path | None = None
    hop_s: float | None = None
    fast_decode: bool = False
    top_k: int = 5
    batch_size: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    decode_device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    actors: int | None = None
    address: str | None = None
    extensions: tuple[str, ...] = ()
    overwrite: bool = False
    max_failures: MaxFailures = MaxFailures()
    retry_failed: bool = False
    prune: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Failure:
    """A video that could not be read, or only in part."""

    path: str
    status: Literal["partial", "failed"]
    kind: ErrorKind
    reason: str


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
class LabelCount:
    """How often a label came first."""

    label: str
    segments: int
    seconds: float


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


class JobError(VtagError):
    """A job that cannot go on: the model fails, a worker dies again and again, or too many videos cannot be read.

    What is finished is kept.
    """


class WorkerError(JobError):
    """Ray, a worker or the model failed in a way that vtag has no words of its own for.

    ``log`` is the file to which Ray and its workers wrote, and ``log_tail`` its last lines.
    """

    log: Path | None = None
    log_tail: tuple[str, ...] = ()


class Interrupted(VtagError):  # noqa: N818 - an outcome rather than an error
    """A job that was stopped by Ctrl-C or SIGTERM. The message says what is kept and how to go on."""

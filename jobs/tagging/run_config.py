"""The configuration of ``vtag run``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from jobs.archive.video import VideoRanges


@dataclass(frozen=True)
class MaxFailures:
    """How many videos may fail, or be read only in part, before a job gives up.

    ``videos`` is a number of videos. ``share`` is a share of the finished videos, checked from ``MIN_VIDEOS`` finished
    videos on.
    """

    videos: int | None = None
    share: float | None = None

    MIN_VIDEOS: ClassVar[int] = 20

    def is_exceeded(self, failed: int, done: int) -> bool:
        """Whether ``failed`` out of ``done`` videos are too many."""
        if self.videos is not None and failed > self.videos:
            return True
        return self.share is not None and done >= self.MIN_VIDEOS and failed > self.share * done

    def __str__(self) -> str:
        return f"{self.videos}" if self.share is None else f"{100 * self.share:g}%"


@dataclass(frozen=True)
class MaxPrune:
    """How many videos ``--prune`` may remove from a result: a number, or a share of the videos in the result."""

    videos: int | None = None
    share: float | None = 0.1

    def is_exceeded(self, pruned: int, recorded: int) -> bool:
        """Whether ``pruned`` out of ``recorded`` videos are too many."""
        # A percentage is not exact as a float.
        return pruned > (self.videos if self.videos is not None else (self.share or 0.0) * recorded + 1e-6)

    def __str__(self) -> str:
        return f"{self.videos}" if self.videos is not None else f"{100 * (self.share or 0.0):g}%"


@dataclass(frozen=True)
class RunConfig:
    """The options of ``vtag run``. None means: chosen automatically.

    ``inputs`` are files, folders, globs, ``@list.txt`` or ``-``; ``out`` ending in ``.parquet`` is one file, anything
    else a folder of part files; both may be addresses such as ``s3://bucket/videos``. ``frames`` is the number of
    frames that the model sees of each window, if it leaves a choice (see ``find_model``). ``hop_s`` is the distance
    between window starts in seconds; ``fast_decode`` is passed to Sampling. ``only`` are the ranges of videos that are
    tagged, starts and ends in seconds; other videos and windows are left out. ``prune`` removes the videos from the
    result that are certainly gone (see ``jobs.archive.gone``), at most ``max_prune``. ``embeddings`` writes the
    embeddings of the segments, too; a result that has them keeps getting them without it.
    """

    inputs: tuple[str, ...]
    out: str | Path
    model: str = "actions38"
    weights: Path | None = None
    frames: int | None = None
    hop_s: float | None = None
    fast_decode: bool = False
    only: VideoRanges | None = None
    top_k: int = 5
    batch_size: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    decode_device: Literal["auto", "cpu", "cuda"] = "auto"
    reader: Literal["auto", "pyav", "decord"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    actors: int | None = None
    embeddings: bool = False
    address: str | None = None
    extensions: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    null: bool = False
    overwrite: bool = False
    max_failures: MaxFailures = MaxFailures()
    retry_failed: bool = False
    prune: bool = False
    max_prune: MaxPrune = MaxPrune()
    verbose: bool = False

"""What a job will do, found out before anything is started."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from jobs.job import RunConfig, Video
from jobs.ledger import Ledger, RunIdentity, read_identity
from jobs.listing import find_videos
from jobs.output import Output, choose_output
from tagger.errors import InputError, OutputError, VideoError
from tagger.tagger import ModelSource, find_model
from tagger.video.isolation import decoder_of_this_thread
from tagger.windows import Sampling

PROBES = 8
"""Processes that open videos at a time. On a network disk most of their time is waiting."""


@dataclass(frozen=True)
class Plan:
    """A job ready to run. ``kept`` are the videos that an interrupted run has finished; ``todo`` are the others.

    ``identity`` is what the rows depend on; ``discards`` tells that an earlier run folder will be removed.
    """

    config: RunConfig
    videos: tuple[Video, ...]
    todo: tuple[Video, ...]
    kept: tuple[Video, ...]
    source: ModelSource
    sampling: Sampling
    output: Output
    identity: RunIdentity
    discards: bool


@dataclass(frozen=True)
class DryRun:
    """What a job would do: videos, how many of them cannot even be opened, hours and windows still to be done."""

    videos: int
    kept: int
    unreadable: int
    video_s: float
    windows: int


def make_plan(config: RunConfig) -> Plan:
    """Plans a job without changing anything on disk (a model by name may be downloaded).

    Raises InputError, OutputError, ModelFileError or WeightsError.
    """
    output = choose_output(config.out, overwrite=config.overwrite)
    videos = tuple(find_videos(config.inputs, config.extensions))
    source = find_model(config.model, config.weights)
    sampling = source.info.sampling
    if config.hop_s is not None:
        try:
            sampling = replace(sampling, hop_s=config.hop_s)
        except ValueError as error:
            raise InputError(str(error)) from None
    top_k = min(config.top_k, len(source.info.labels))
    identity = RunIdentity(source.name, source.hash, sampling.to_json(), top_k)
    kept = set() if config.overwrite else _kept(output, identity, videos, retry_failed=config.retry_failed)
    return Plan(
        config=config,
        videos=videos,
        todo=tuple(video for video in videos if video not in kept),
        kept=tuple(video for video in videos if video in kept),
        source=source,
        sampling=sampling,
        output=output,
        identity=identity,
        discards=config.overwrite,
    )


def _kept(output: Output, identity: RunIdentity, videos: tuple[Video, ...], *, retry_failed: bool) -> set[Video]:
    """What an interrupted run of the same kind has finished. Raises OutputError for a run of another kind."""
    earlier = read_identity(output.run)
    if earlier is None:
        return set()
    # The name is what the user calls it; the hash is what it is.
    if replace(earlier, model=identity.model) != identity:
        raise OutputError(
            f"{output.run} holds an interrupted run with {_difference(earlier, identity)}; "
            "use --overwrite to start over, or choose another --out"
        )
    ledger = Ledger(output.run)
    kept = {video: ledger.kept(video) for video in videos}
    return {video for video, record in kept.items() if record and not (retry_failed and record.status == "failed")}


def _difference(earlier: RunIdentity, now: RunIdentity) -> str:
    if earlier.model_hash != now.model_hash:
        return f"another model ({earlier.model})"
    if earlier.sampling != now.sampling:
        return f"another sampling ({Sampling(**earlier.sampling)})"
    return f"another top-k ({earlier.top_k})"


def dry_run(plan: Plan, on_probed: Callable[[int], None] = lambda probed: None) -> DryRun:
    """Opens every video that is still to be done and adds up what there is. ``on_probed`` gets the count so far."""

    def windows_of(video: Video) -> tuple[float, int] | None:
        try:
            facts = decoder_of_this_thread().probe(video.path)
        except VideoError:  # The run will say it in its row.
            return None
        duration_s = facts.duration_s or 0.0
        return duration_s, plan.sampling.window_count(duration_s)

    unreadable = windows = 0
    video_s = 0.0
    with ThreadPoolExecutor(max_workers=min(PROBES, max(1, len(plan.todo)))) as pool:
        for probed, found in enumerate(pool.map(windows_of, plan.todo), start=1):
            if found is None:
                unreadable += 1
            else:
                video_s += found[0]
                windows += found[1]
            on_probed(probed)
    return DryRun(len(plan.videos), len(plan.kept), unreadable, video_s, windows)

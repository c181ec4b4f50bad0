"""Compares the rate of the whole pipeline with the rates that decoding and the model reach alone.

When decoding and model share the cores, a window costs its decoding and its classification. No pipeline can then do
more than 1 / (1 / decoding + 1 / model) windows per second. With the model on a GPU the slower part is the limit.
A shared machine is faster in one minute than in the next. So the parts and the pipeline are measured in turns, several
times: each pipeline is compared with the mean rates of its parts just before it and just after it. The efficiency is
the median of these ratios.
"""

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Video
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import JobError
from jobs.measure.ceilings import ModelMeasure, measure_model, measure_transport
from jobs.measure.figures import Bench
from jobs.measure.rates import fastest, medians, rates_of_fastest
from jobs.storage.address import is_address
from jobs.tagging.decode_trial import MIN_SPEEDUP, DecodeRate, measure_decoding
from jobs.tagging.pipeline import Workers, choose_workers, tag_videos, windows_per_call
from jobs.tagging.plan import with_hop
from tagger.errors import VideoError
from tagger.isolation import DecoderProcess
from tagger.model_file import ModelInfo
from tagger.tagger import ModelSource
from tagger.video.cutting import choose_first_reader
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import DecoderName
from tagger.windows import Sampling

if TYPE_CHECKING:
    from tagger.classifier import DeviceName, PrecisionName

PIPELINE_FACTOR = 4
"""The pipeline runs this many times as long as each other measurement."""

MAX_VIDEOS = 32
"""Maximum number of videos of an archive that are used to measure."""


def bench(
    videos: Sequence[Video],
    source: ModelSource,
    *,
    device: "DeviceName" = "auto",
    precision: "PrecisionName" = "auto",
    seconds: float = 5.0,
    rounds: int = 3,
    hop_s: float | None = None,
    verbose: bool = False,
    on_part: Callable[[str], None] = lambda part: None,
) -> Bench:
    """Measures with the first of ``videos``: each figure for about ``seconds``, the pipeline ``rounds`` times.

    ``hop_s`` is the time in seconds from one window to the next; without it, windows have no pauses. ``on_part`` gets
    the name of each measurement before it starts. Raises JobError when no video can be used, and InputError.
    """
    sampling = with_hop(source.info.sampling, hop_s)
    if any(is_address(video.path) for video in videos):
        raise JobError("vtag bench measures this machine with local videos; copy some from the bucket first")
    readable = list(itertools.islice(_readable(videos), MAX_VIDEOS))
    if not readable:
        raise JobError("none of the videos can be opened and has a known length; `vtag probe VIDEO` shows why")
    result: Bench = run_on_ray(
        "measuring",
        _measure,
        readable,
        source,
        device,
        precision,
        seconds,
        rounds,
        sampling,
        on_event=on_part,
        address="local",
        verbose=verbose,
    )
    return result


def _measure(
    session: RaySession,
    send_event: SendEvent,
    readable: Sequence[tuple[Video, VideoFacts]],
    source: ModelSource,
    device: "DeviceName",
    precision: "PrecisionName",
    seconds: float,
    rounds: int,
    sampling: Sampling,
) -> Bench:
    """The part of ``bench`` that runs in the Ray driver. Sends the name of each measurement before it starts."""
    info, facts = source.info, readable[0][1]
    reader: DecoderName = choose_first_reader(facts, sampling, info.preprocessing).decoder
    workers = choose_workers(session.cpus, session.gpus, device)
    send_event("decoding")
    on_disk = [(video.path, facts) for video, facts in readable]

    def decoding(reader: DecoderName, cores: int) -> DecodeRate:
        return measure_decoding(on_disk, sampling, info.preprocessing, reader, cores, seconds)

    # The first measurement is discarded: processes of Ray are still starting.
    decoding(reader, workers.cores)
    decode = [
        decoding(name, cores)
        for name in _readers(info, sampling, *on_disk[0], on_gpu=workers.device == "cuda")
        for cores in sorted({1, workers.cores})
    ]
    if _gpu_decodes(decode, reader):
        reader, workers = "pyav-nvdec", choose_workers(session.cpus, session.gpus, device, nvdec=True)
    send_event("transport")
    rows = windows_per_call(info, workers.device, workers.actors)
    transport = measure_transport(source, rows)
    send_event("the model")
    models = [measure_model(source, workers, precision, seconds)]
    # Enough windows that the end of the run, when some actors have none left, counts for little.
    each_s = 1 / fastest(decode, reader=reader).windows_per_s + 1 / fastest(models[0].rates).windows_per_s
    wanted = max(PIPELINE_FACTOR * seconds / each_s, 8 * rows * workers.actors)
    enough = _repeat_to_length(readable, wanted * sampling.effective_hop_s)
    lengths_s = {video.path: facts.duration_s or 0.0 for video, facts in readable}
    video_s = sum(lengths_s[video.path] for video in enough)
    runs = []
    for number in range(1, rounds + 1):
        send_event(f"the pipeline, {number} of {rounds}")
        runs.append(_run_pipeline(enough, video_s, source, sampling, workers, precision))
        send_event(f"decoding and the model again, {number} of {rounds}")
        decode.append(decoding(reader, workers.cores))
        models.append(measure_model(source, workers, precision, seconds, alone=False))
    if precision == "auto" and models[0].precision != "fp32":
        send_event("the model in fp32")
        models.append(measure_model(source, workers, "fp32", seconds))
    return _figures(source, sampling, workers, facts, reader, decode, models, transport, runs)


def _figures(
    source: ModelSource,
    sampling: Sampling,
    workers: Workers,
    facts: VideoFacts,
    reader: DecoderName,
    decode: Sequence[DecodeRate],
    models: Sequence[ModelMeasure],
    transport: float,
    runs: Sequence["_Pipeline"],
) -> Bench:
    """Returns the figures of all measurements.

    ``runs`` are the pipelines, in order. The parts that they use were measured before and after each of them.
    """
    info = source.info
    model = [rate for measured in models for rate in measured.rates]
    decode_per_s = _neighbour_means(rates_of_fastest(decode, len(runs) + 1))
    model_per_s = _neighbour_means(rates_of_fastest(model, len(runs) + 1))
    rates = list(zip(decode_per_s, model_per_s, strict=True))
    return Bench(
        model_name=source.name,
        precision=models[0].precision,
        device=workers.device,
        cores=workers.cores,
        facts=facts,
        reader=reader,
        decode=tuple(medians(decode)),
        model=tuple(medians(model)),
        gflop_per_window=models[0].flop / 1e9,
        gflop_per_s=_peaks(models),
        window_bytes=info.sampling.num_frames * math.prod(info.preprocessing.shape),
        transport_mb_per_s=transport / 1e6,
        ceilings=tuple(_ceiling(*each, workers.device) for each in rates),
        pipelines=tuple(run.windows_per_s(*each) for run, each in zip(runs, rates, strict=True)),
        start_s=runs[0].start_s,
        hop_s=sampling.effective_hop_s,
        video_s_per_window=runs[0].video_s / runs[0].windows,
    )


def _gpu_decodes(decode: Sequence[DecodeRate], reader: DecoderName) -> bool:
    """Returns whether a job would decode on the GPU, by the speed-up that ``jobs.tagging.decode_trial`` asks for."""
    on_gpu = [rate for rate in decode if rate.reader == "pyav-nvdec"]
    return bool(on_gpu) and fastest(on_gpu).windows_per_s >= MIN_SPEEDUP * fastest(decode, reader=reader).windows_per_s


def _neighbour_means(measured: Sequence[float]) -> list[float]:
    """Returns the mean of each two neighbours: of the rates measured before and after a pipeline."""
    return [statistics.mean(pair) for pair in itertools.pairwise(measured)]


def _ceiling(decode_per_s: float, model_per_s: float, device: str) -> float:
    """Windows per second that decoding and the model allow together."""
    return min(decode_per_s, model_per_s) if device == "cuda" else 1 / (1 / decode_per_s + 1 / model_per_s)


def _peaks(models: Sequence[ModelMeasure]) -> dict[str, float]:
    """Returns the peak in GFLOP/s by precision."""
    return {
        name: statistics.median(model.flop_per_s for model in models if model.precision == name) / 1e9
        for name in dict.fromkeys(model.precision for model in models)
    }


def _readers(info: ModelInfo, sampling: Sampling, path: str, facts: VideoFacts, on_gpu: bool) -> list[DecoderName]:
    """Returns the readers that can read a video: the chosen one, PyAV, the one for --fast-decode, and the GPU's."""
    chosen = choose_first_reader(facts, sampling, info.preprocessing)
    fast = choose_first_reader(facts, replace(sampling, fast_decode=True), info.preprocessing)
    readers: list[DecoderName] = [chosen.decoder, "pyav", fast.decoder]
    if on_gpu and choose_first_reader(facts, sampling, info.preprocessing, nvdec=True).decoder == "pyav-nvdec":
        with DecoderProcess() as decoder, contextlib.suppress(VideoError):
            readers += ["pyav-nvdec"] if decoder.nvdec_reads(path) else []
    return list(dict.fromkeys(readers))


def _repeat_to_length(videos: Sequence[tuple[Video, VideoFacts]], wanted_s: float) -> list[Video]:
    """Repeats the videos until their total length is ``wanted_s`` or a little more."""
    repeated: list[Video] = []
    for video, facts in itertools.cycle(videos):
        if wanted_s <= 0:
            return repeated
        repeated.append(video)
        wanted_s -= facts.duration_s or 0.0
    raise AssertionError("the cycle has no end")


def _readable(videos: Sequence[Video]) -> Iterator[tuple[Video, VideoFacts]]:
    """Yields the videos with a known length and frame rate, with their facts."""
    with DecoderProcess() as decoder:
        for video in videos:
            with contextlib.suppress(VideoError):
                facts = decoder.probe(video.path)
                if facts.duration_s and facts.fps:
                    yield video, facts


@dataclass(frozen=True)
class _Pipeline:
    """One run of the whole pipeline: its windows, and the length of its videos in seconds.

    The first windows came back after ``start_s``. In the ``passed_s`` seconds after that, ``decoded`` windows were
    decoded and ``predicted`` windows were classified.
    """

    windows: int
    video_s: float
    decoded: int
    predicted: int
    passed_s: float
    start_s: float

    def windows_per_s(self, decode_per_s: float, model_per_s: float) -> float:
        """Returns the windows decoded and classified per second.

        Some windows were decoded before ``passed_s`` began, while the models were loading. So decoded and classified
        windows are counted apart, each weighted by its cost: ``decode_per_s`` and ``model_per_s`` are the rates of the
        parts alone.
        """
        done = self.decoded / decode_per_s + self.predicted / model_per_s
        return done / (1 / decode_per_s + 1 / model_per_s) / self.passed_s


def _run_pipeline(
    videos: Sequence[Video],
    video_s: float,
    source: ModelSource,
    sampling: Sampling,
    workers: Workers,
    precision: "PrecisionName",
) -> _Pipeline:
    """Tags the videos, which are ``video_s`` seconds long together, and discards the rows."""
    begun_s = time.time()
    tables = [
        (time.time(), table.filter(pc.is_valid(table["window"])))
        for table in tag_videos(videos, source, sampling, workers, top_k=1, precision=precision)
    ]
    first_s = next((came_s for came_s, table in tables if table.num_rows), begun_s)
    rows = pa.concat_tables([table for _, table in tables])
    passed_s = tables[-1][0] - first_s
    if passed_s <= 0:
        raise JobError("the videos are too short to measure with; name longer ones, or more --seconds")
    return _Pipeline(
        windows=rows.num_rows,
        video_s=video_s,
        decoded=pc.sum(pc.greater(rows["decoded_at"], first_s)).as_py(),
        predicted=pc.sum(pc.greater(rows["predicted_at"], first_s)).as_py(),
        passed_s=passed_s,
        start_s=first_s - begun_s,
    )

"""How close the whole pipeline comes to what its parts can do, which ``ceilings`` measures.

When decoding and model share the cores, a window costs its decoding and its classification, so that no pipeline can do
more than 1 / (1 / decoding + 1 / model) windows per second; with the model on a GPU the slower of the two counts.
Machines that are shared are faster in one minute than in the next. So the parts and the pipeline are measured in turns,
several times: a pipeline is compared with the means of what its parts did just before it and just after it, and the
median of these comparisons is the efficiency.
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Video
from jobs.cluster.ray_driver import Tell, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import JobError
from jobs.measure.ceilings import ModelMeasure, measure_model, measure_transport
from jobs.measure.rates import ModelRate, fastest, fastest_each_time, medians
from jobs.storage.address import is_address
from jobs.tagging.decode_trial import WORTH, DecodeRate, measure_decoding
from jobs.tagging.pipeline import Workers, choose_workers, tag_videos, windows_per_call
from tagger.clips import rule
from tagger.errors import VideoError
from tagger.isolation import DecoderProcess
from tagger.model_file import ModelInfo
from tagger.tagger import ModelSource
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import DecoderName

if TYPE_CHECKING:
    from tagger.classifier import DeviceName, PrecisionName

LONG = 4
"""How much longer than everything else the pipeline runs."""

MOST_VIDEOS = 32
"""Videos of an archive that are taken to measure with."""

Part = Literal["decoding", "model"]

DERIVED = (
    "decode_windows_per_s",
    "model_windows_per_s",
    "ceiling_windows_per_s",
    "pipeline_windows_per_s",
    "realtime",
    "efficiencies",
    "efficiency",
    "cores_for_model",
    "bottleneck",
)
"""What follows from the measurements, and is written to JSON with them."""


@dataclass(frozen=True)
class Bench:
    """What was measured, in the ``precision`` and with the ``reader`` that are chosen here.

    ``decode`` and ``model`` have the rates of one core or actor and of all; what was measured several times, by its
    median. ``gflop_per_window`` is the arithmetic of the model, ``gflop_per_s`` what all actors do at their peak, by
    precision. ``ceilings`` and ``pipelines`` have an item for each time the pipeline was measured: the windows per
    second that its parts allowed then, and those that it did. ``start_s`` is the time until the first windows of the
    first one came back; none counts for a rate. ``video_s_per_window`` is the length of video to one window.
    """

    model_name: str
    precision: str
    device: str
    cores: int
    facts: VideoFacts
    reader: DecoderName
    decode: tuple[DecodeRate, ...]
    model: tuple[ModelRate, ...]
    gflop_per_window: float
    gflop_per_s: dict[str, float]
    window_bytes: int
    transport_mb_per_s: float
    ceilings: tuple[float, ...]
    pipelines: tuple[float, ...]
    start_s: float
    video_s_per_window: float

    @property
    def decode_windows_per_s(self) -> float:
        """What all cores decode when they do nothing else, with the reader that is used."""
        return fastest(self.decode, reader=self.reader, cores=self.cores).windows_per_s

    @property
    def model_windows_per_s(self) -> float:
        """What all actors classify when nothing is decoded, in the precision that is used."""
        actors = max(rate.actors for rate in self.model)
        return fastest(self.model, precision=self.precision, actors=actors).windows_per_s

    @property
    def ceiling_windows_per_s(self) -> float:
        """What decoding and the model allow together."""
        return statistics.median(self.ceilings)

    @property
    def pipeline_windows_per_s(self) -> float:
        """What the pipeline achieves."""
        return statistics.median(self.pipelines)

    @property
    def realtime(self) -> float:
        """Seconds of video per second."""
        return self.pipeline_windows_per_s * self.video_s_per_window

    @property
    def efficiencies(self) -> tuple[float, ...]:
        """Achieved over possible, each time."""
        return tuple(did / could for did, could in zip(self.pipelines, self.ceilings, strict=True))

    @property
    def efficiency(self) -> float:
        """Achieved over possible: the median of each time, not of the pipelines over that of the ceilings."""
        return statistics.median(self.efficiencies)

    @property
    def cores_for_model(self) -> float:
        """How many cores decode what all actors classify, exactly and without a GPU."""
        one = fastest(self.decode, reader="pyav", cores=1)
        return self.model_windows_per_s / one.windows_per_s

    @property
    def bottleneck(self) -> Part:
        """What takes most of the time."""
        return "decoding" if self.decode_windows_per_s < self.model_windows_per_s else "model"

    def to_json(self) -> dict[str, Any]:
        """All of it, derived figures too."""
        return asdict(self) | {name: getattr(self, name) for name in DERIVED}


def bench(
    videos: Sequence[Video],
    source: ModelSource,
    *,
    device: "DeviceName" = "auto",
    precision: "PrecisionName" = "auto",
    seconds: float = 5.0,
    rounds: int = 3,
    verbose: bool = False,
    on_part: Callable[[str], None] = lambda part: None,
) -> Bench:
    """Measures with the first of ``videos``, each figure for about ``seconds``, the pipeline ``rounds`` times.

    ``on_part`` is told what is measured next. Raises JobError when there is nothing to measure with.
    """
    if any(is_address(video.path) for video in videos):
        raise JobError("vtag bench measures this machine with local videos; copy some from the bucket first")
    readable = list(itertools.islice(_readable(videos), MOST_VIDEOS))
    if not readable:
        raise JobError("none of the videos can be opened and says how long it is; `vtag probe` tells more")
    result: Bench = run_on_ray(
        "measuring",
        _measure,
        readable,
        source,
        device,
        precision,
        seconds,
        rounds,
        on_event=on_part,
        address="local",
        verbose=verbose,
    )
    return result


def _measure(
    session: RaySession,
    tell: Tell,
    readable: Sequence[tuple[Video, VideoFacts]],
    source: ModelSource,
    device: "DeviceName",
    precision: "PrecisionName",
    seconds: float,
    rounds: int,
) -> Bench:
    """What ``bench`` does on Ray; tells what is measured next."""
    info, facts = source.info, readable[0][1]
    reader: DecoderName = rule(facts, info.sampling, info.preprocessing).decoder
    workers = choose_workers(session.cpus, session.gpus, device)
    tell("decoding")
    on_disk = [(video.path, facts) for video, facts in readable]

    def decoding(reader: DecoderName, cores: int) -> DecodeRate:
        return measure_decoding(on_disk, info.sampling, info.preprocessing, reader, cores, seconds)

    # The first measurement is thrown away: processes of Ray are still starting.
    decoding(reader, workers.cores)
    decode = [
        decoding(name, cores)
        for name in _readers(info, *on_disk[0], on_gpu=workers.device == "cuda")
        for cores in sorted({1, workers.cores})
    ]
    if _gpu_decodes(decode, reader):
        reader, workers = "pyav-nvdec", choose_workers(session.cpus, session.gpus, device, nvdec=True)
    tell("transport")
    rows = windows_per_call(info.architecture, workers.device)
    transport = measure_transport(source, rows)
    tell("the model")
    models = [measure_model(source, workers, precision, seconds)]
    # So much that the last windows, of which not all actors have some, count for little.
    each_s = 1 / fastest(decode, reader=reader).windows_per_s + 1 / fastest(models[0].rates).windows_per_s
    wanted = max(LONG * seconds / each_s, 8 * rows * workers.actors)
    enough = _enough(readable, wanted * info.sampling.hop)
    runs = []
    for number in range(1, rounds + 1):
        tell(f"the pipeline, {number} of {rounds}")
        runs.append(_run_pipeline(enough, source, workers, precision))
        tell(f"decoding and the model again, {number} of {rounds}")
        decode.append(decoding(reader, workers.cores))
        models.append(measure_model(source, workers, precision, seconds, alone=False))
    model = [rate for measured in models for rate in measured.rates]
    decode_per_s = _around(fastest_each_time(decode, rounds + 1))
    model_per_s = _around(fastest_each_time(model, rounds + 1))
    if precision == "auto" and models[0].precision != "fp32":
        tell("the model in fp32")
        models.append(measure_model(source, workers, "fp32", seconds))
        model += models[-1].rates
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
        window_bytes=info.sampling.num_frames * info.preprocessing.size**2 * 3,
        transport_mb_per_s=transport / 1e6,
        ceilings=tuple(_ceiling(*each, workers.device) for each in rates),
        pipelines=tuple(run.windows_per_s(*each) for run, each in zip(runs, rates, strict=True)),
        start_s=runs[0].start_s,
        video_s_per_window=runs[0].video_s / runs[0].windows,
    )


def _gpu_decodes(decode: Sequence[DecodeRate], reader: DecoderName) -> bool:
    """Whether a job would decode on the GPU, as ``jobs.tagging.decode_trial`` decides."""
    on_gpu = [rate for rate in decode if rate.reader == "pyav-nvdec"]
    return bool(on_gpu) and fastest(on_gpu).windows_per_s >= WORTH * fastest(decode, reader=reader).windows_per_s


def _around(measured: Sequence[float]) -> list[float]:
    """The mean of each two that follow one another, what was measured before something and after it."""
    return [statistics.mean(pair) for pair in itertools.pairwise(measured)]


def _ceiling(decode_per_s: float, model_per_s: float, device: str) -> float:
    """Windows per second that decoding and the model allow together."""
    return min(decode_per_s, model_per_s) if device == "cuda" else 1 / (1 / decode_per_s + 1 / model_per_s)


def _peaks(models: Sequence[ModelMeasure]) -> dict[str, float]:
    """GFLOP/s by precision."""
    return {
        name: statistics.median(model.flop_per_s for model in models if model.precision == name) / 1e9
        for name in dict.fromkeys(model.precision for model in models)
    }


def _readers(info: ModelInfo, path: str, facts: VideoFacts, on_gpu: bool) -> list[DecoderName]:
    """The readers that may read a video: the one chosen for it, PyAV, the one for --fast-decode, and the GPU's."""
    chosen = rule(facts, info.sampling, info.preprocessing)
    fast = rule(facts, replace(info.sampling, fast_decode=True), info.preprocessing)
    readers: list[DecoderName] = [chosen.decoder, "pyav", fast.decoder]
    if on_gpu and rule(facts, info.sampling, info.preprocessing, nvdec=True).decoder == "pyav-nvdec":
        with DecoderProcess() as decoder, contextlib.suppress(VideoError):
            readers += ["pyav-nvdec"] if decoder.nvdec_reads(path) else []
    return list(dict.fromkeys(readers))


def _enough(videos: Sequence[tuple[Video, VideoFacts]], wanted_s: float) -> list[Video]:
    """Videos, around and around, that are as long as ``wanted_s`` in all."""
    enough: list[Video] = []
    for video, facts in itertools.cycle(videos):
        if wanted_s <= 0:
            return enough
        enough.append(video)
        wanted_s -= facts.duration_s or 0.0
    raise AssertionError("the cycle has no end")


def _readable(videos: Sequence[Video]) -> Iterator[tuple[Video, VideoFacts]]:
    """Videos that say how long they are, with their facts."""
    with DecoderProcess() as decoder:
        for video in videos:
            with contextlib.suppress(VideoError):
                facts = decoder.probe(video.path)
                if facts.duration_s and facts.fps:
                    yield video, facts


@dataclass(frozen=True)
class _Pipeline:
    """One job over the whole pipeline: its windows and their length, and what was done after the first came back.

    ``decoded`` and ``predicted`` windows took ``passed_s``; until the first it took ``start_s``.
    """

    windows: int
    video_s: float
    decoded: int
    predicted: int
    passed_s: float
    start_s: float

    def windows_per_s(self, decode_per_s: float, model_per_s: float) -> float:
        """Windows decoded and classified per second, where each part alone does so many per second.

        Of the windows that came back some had been decoded while the models were being loaded, so what was done counts
        by what it costs.
        """
        done = self.decoded / decode_per_s + self.predicted / model_per_s
        return done / (1 / decode_per_s + 1 / model_per_s) / self.passed_s


def _run_pipeline(
    videos: Sequence[Video], source: ModelSource, workers: Workers, precision: "PrecisionName"
) -> _Pipeline:
    """Tags the videos and throws the rows away."""
    begun_s = time.time()
    tables = [
        (time.time(), table.filter(pc.is_valid(table["window"])))
        for table in tag_videos(videos, source, source.info.sampling, workers, top_k=1, precision=precision)
    ]
    first_s = next((came_s for came_s, table in tables if table.num_rows), begun_s)
    rows = pa.concat_tables([table for _, table in tables])
    passed_s = tables[-1][0] - first_s
    if passed_s <= 0:
        raise JobError("the videos are too short to measure with; name longer ones, or more --seconds")
    return _Pipeline(
        windows=rows.num_rows,
        video_s=pc.sum(pc.subtract(rows["end_s"], rows["start_s"])).as_py(),
        decoded=pc.sum(pc.greater(rows["decoded_at"], first_s)).as_py(),
        predicted=pc.sum(pc.greater(rows["predicted_at"], first_s)).as_py(),
        passed_s=passed_s,
        start_s=first_s - begun_s,
    )

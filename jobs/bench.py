"""How close the whole pipeline comes to what its parts can do, which ``ceilings`` measures.

When decoding and model share the cores, a window costs its decoding and its classification, so that no pipeline can do
more than 1 / (1 / decoding + 1 / model) windows per second; with the model on a GPU the slower of the two counts.
Machines that are shared are faster in one minute than in the next. So these two are measured before the pipeline and
after it, and their means are what it is compared with.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jobs.address import is_address
from jobs.ceilings import DecodeRate, ModelRate, measure_decoding, measure_model, measure_transport
from jobs.job import JobError, Video
from jobs.nvdec import WORTH
from jobs.pipeline import Workers, choose_workers, tag_videos, windows_per_call
from jobs.ray_session import ray_session
from tagger.clips import rule
from tagger.errors import VideoError
from tagger.model_file import ModelInfo
from tagger.tagger import ModelSource
from tagger.video.facts import VideoFacts
from tagger.video.isolation import DecoderProcess
from tagger.video.reader import DecoderName

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
    "efficiency",
    "cores_for_model",
    "bottleneck",
)
"""What follows from the measurements, and is written to JSON with them."""


@dataclass(frozen=True)
class Bench:
    """What was measured, in the ``precision`` and with the ``reader`` that are chosen here.

    ``decode`` and ``model`` have the rates of one core or actor and of all. ``gflop_per_window`` is the arithmetic of
    the model, ``gflop_per_s`` what all actors do at their peak, by precision. ``start_s`` is the time until the
    pipeline's first windows came back, which is left out of its rate.
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
    pipeline_windows_per_s: float
    realtime: float
    start_s: float

    @property
    def decode_windows_per_s(self) -> float:
        """What all cores decode when they do nothing else, with the reader that is used."""
        return _fastest(self.decode, reader=self.reader).windows_per_s

    @property
    def model_windows_per_s(self) -> float:
        """What all actors classify when nothing is decoded, in the precision that is used."""
        return _fastest(self.model, precision=self.precision).windows_per_s

    @property
    def ceiling_windows_per_s(self) -> float:
        """What decoding and the model allow together."""
        decode, model = self.decode_windows_per_s, self.model_windows_per_s
        return min(decode, model) if self.device == "cuda" else 1 / (1 / decode + 1 / model)

    @property
    def efficiency(self) -> float:
        """Achieved over possible."""
        return self.pipeline_windows_per_s / self.ceiling_windows_per_s

    @property
    def cores_for_model(self) -> float:
        """How many cores decode what all actors classify, exactly and without a GPU."""
        one = _fastest((rate for rate in self.decode if rate.cores == 1), reader="pyav")
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
    verbose: bool = False,
    on_part: Callable[[str], None] = lambda part: None,
) -> Bench:
    """Measures with the first of ``videos``, each figure for about ``seconds``.

    ``on_part`` is told what is measured next. Raises JobError when there is nothing to measure with.
    """
    if any(is_address(video.path) for video in videos):
        raise JobError("vtag bench measures this machine with local videos; copy some from the bucket first")
    readable = list(itertools.islice(_readable(videos), MOST_VIDEOS))
    if not readable:
        raise JobError("none of the videos can be opened and says how long it is; `vtag probe` tells more")
    info, facts = source.info, readable[0][1]
    reader: DecoderName = rule(facts, info.sampling, info.preprocessing).decoder
    with ray_session("local", verbose=verbose) as session:
        workers = choose_workers(session.cpus, session.gpus, device)
        on_part("decoding")
        on_disk = [(video.path, facts) for video, facts in readable]

        def decoding(reader: DecoderName, cores: int) -> DecodeRate:
            return measure_decoding(on_disk, info.sampling, info.preprocessing, reader, cores, seconds)

        decode = [
            decoding(name, cores)
            for name in _readers(info, *on_disk[0], on_gpu=workers.device == "cuda")
            for cores in sorted({1, workers.cores})
        ]
        if _gpu_decodes(decode, reader):
            reader, workers = "pyav-nvdec", choose_workers(session.cpus, session.gpus, device, nvdec=True)
        on_part("the model")
        models = [measure_model(source, workers, precision, seconds)]
        on_part("transport")
        rows = windows_per_call(info.architecture, workers.device)
        transport = measure_transport(source, rows)
        on_part("the pipeline")
        decode_per_s = _fastest(decode, reader=reader).windows_per_s
        model_per_s = _fastest(models[0].rates).windows_per_s
        # So much that the last windows, of which not all actors have some, count for little.
        wanted = max(LONG * seconds / (1 / decode_per_s + 1 / model_per_s), 8 * rows * workers.actors)
        run = _run_pipeline(_enough(readable, wanted * info.sampling.hop), source, workers, precision)
        on_part("decoding and the model again")
        decode = _means(decode, [decoding(reader, workers.cores)])
        again = measure_model(source, workers, precision, seconds, alone=False)
        models = [replace(models[0], rates=tuple(_means(models[0].rates, again.rates)))]
        decode_per_s = _fastest(decode, reader=reader).windows_per_s
        model_per_s = _fastest(models[0].rates).windows_per_s
        if precision == "auto" and models[0].precision != "fp32":
            on_part("the model in fp32")
            models.append(measure_model(source, workers, "fp32", seconds))
        # Of the windows that came back some had been decoded while the models were being loaded.
        work_s = run.decoded / decode_per_s + run.predicted / model_per_s
        per_s = work_s / (1 / decode_per_s + 1 / model_per_s) / run.passed_s
    return Bench(
        model_name=source.name,
        precision=models[0].precision,
        device=workers.device,
        cores=workers.cores,
        facts=facts,
        reader=reader,
        decode=tuple(decode),
        model=tuple(rate for model in models for rate in model.rates),
        gflop_per_window=models[0].flop / 1e9,
        gflop_per_s={model.precision: model.flop_per_s / 1e9 for model in models},
        window_bytes=info.sampling.num_frames * info.preprocessing.size**2 * 3,
        transport_mb_per_s=transport / 1e6,
        pipeline_windows_per_s=per_s,
        realtime=per_s * run.video_s / run.windows,
        start_s=run.start_s,
    )


def _gpu_decodes(decode: Sequence[DecodeRate], reader: DecoderName) -> bool:
    """Whether a job would decode on the GPU, as ``jobs.nvdec`` decides."""
    on_gpu = [rate for rate in decode if rate.reader == "pyav-nvdec"]
    return bool(on_gpu) and _fastest(on_gpu).windows_per_s >= WORTH * _fastest(decode, reader=reader).windows_per_s


_Rate = TypeVar("_Rate", DecodeRate, ModelRate)


def _fastest(rates: Iterable[_Rate], **like: str) -> _Rate:
    """The one with most windows per second among those ``like`` what is named."""
    alike = (rate for rate in rates if all(getattr(rate, name) == value for name, value in like.items()))
    return max(alike, key=lambda rate: rate.windows_per_s)


def _means(before: Sequence[_Rate], after: Sequence[_Rate]) -> list[_Rate]:
    """``before``, with the means of what was measured again ``after``. What was measured are the floats."""
    again = {_kind(rate): vars(rate) for rate in after}
    return [
        replace(rate, **{name: (value + again[_kind(rate)][name]) / 2 for name, value in _measured(rate)})
        if _kind(rate) in again
        else rate
        for rate in before
    ]


def _kind(rate: DecodeRate | ModelRate) -> tuple[Any, ...]:
    return tuple(value for value in vars(rate).values() if not isinstance(value, float))


def _measured(rate: DecodeRate | ModelRate) -> list[tuple[str, float]]:
    return [(name, value) for name, value in vars(rate).items() if isinstance(value, float)]


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

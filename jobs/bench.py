"""How fast this machine can decode, classify and move windows, and how close the whole pipeline comes to that.

Ceilings are measured with the code that ``vtag run`` uses, each part alone: decoding in decoder processes, models in
Ray actors. When both share the cores, a window costs its decoding and its classification, so that no pipeline can do
more than 1 / (1 / decoding + 1 / model) windows per second; with the model on a GPU the slower of the two counts.
Everything is timed after a warm-up.
"""

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.address import is_address
from jobs.job import JobError, Video
from jobs.pipeline import WINDOWS_PER_CALL, Workers, choose_workers, tag_videos
from jobs.ray_session import ray_session
from jobs.transport import clips_of, span_to_table
from tagger.clips import Span, rule
from tagger.errors import VideoError
from tagger.tagger import ModelSource
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts
from tagger.video.isolation import DecoderProcess
from tagger.video.reader import DecoderName
from tagger.windows import Window

if TYPE_CHECKING:
    from tagger.classifier import DeviceName, PrecisionName

BATCH_SIZES = {"cpu": (1, 4), "cuda": (1, 4, 16, 64)}
MATRIX = 2048
"""Side of the square matrices whose product tells the peak of arithmetic."""

ROUNDS = 10
"""Tables that are sent to measure the transport."""

LONG = 4
"""How much longer than everything else the pipeline runs."""

MOST_VIDEOS = 32
"""Videos of an archive that are taken to measure with."""

Part = Literal["decoding", "model"]


@dataclass(frozen=True)
class DecodeRate:
    """What ``cores`` decoder processes do together, with one reader."""

    reader: DecoderName
    cores: int
    frames_per_s: float
    windows_per_s: float


@dataclass(frozen=True)
class ModelRate:
    """What ``actors`` do together, with ``batch_size`` windows in a step.

    ``peak_share`` is the share of the arithmetic that as many products of large matrices do in the same precision.
    """

    precision: str
    actors: int
    batch_size: int
    windows_per_s: float
    peak_share: float


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
        return max(rate.windows_per_s for rate in self.decode if rate.reader == self.reader)

    @property
    def model_windows_per_s(self) -> float:
        """What all actors classify when nothing is decoded, in the precision that is used."""
        return max(rate.windows_per_s for rate in self.model if rate.precision == self.precision)

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
    def bottleneck(self) -> Part:
        """What takes most of the time."""
        return "decoding" if self.decode_windows_per_s < self.model_windows_per_s else "model"

    def to_json(self) -> dict[str, Any]:
        """All of it, derived figures too."""
        derived = ("decode_windows_per_s", "model_windows_per_s", "ceiling_windows_per_s", "efficiency", "bottleneck")
        return asdict(self) | {name: getattr(self, name) for name in derived}


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
    choice = rule(facts, info.sampling, info.preprocessing)
    with ray_session("local", verbose=verbose) as session:
        workers = choose_workers(session.cpus, session.gpus, device)
        on_part("decoding")
        decode = [
            _decode_rate(readable, source, reader, cores, seconds)
            for reader in (("decord", "pyav") if choice.decoder == "decord" else ("pyav",))
            for cores in sorted({1, workers.cores})
        ]
        on_part("the model")
        models = [_measure_model(source, workers, precision, seconds)]
        if precision == "auto" and models[0].precision != "fp32":
            on_part("the model in fp32")
            models.append(_measure_model(source, workers, "fp32", seconds))
        on_part("transport")
        rows = WINDOWS_PER_CALL[workers.device]
        transport = _transport_rate(source, rows)
        on_part("the pipeline")
        decode_per_s = max(rate.windows_per_s for rate in decode if rate.reader == choice.decoder)
        model_per_s = max(rate.windows_per_s for rate in models[0].rates)
        # So much that the last windows, of which not all actors have some, count for little.
        wanted = max(LONG * seconds / (1 / decode_per_s + 1 / model_per_s), 8 * rows * workers.actors)
        run = _run_pipeline(_enough(readable, wanted * info.sampling.hop), source, workers, precision)
        # Of the windows that came back some had been decoded while the models were being loaded.
        work_s = run.decoded / decode_per_s + run.predicted / model_per_s
        per_s = work_s / (1 / decode_per_s + 1 / model_per_s) / run.passed_s
    return Bench(
        model_name=source.name,
        precision=models[0].precision,
        device=workers.device,
        cores=workers.cores,
        facts=facts,
        reader=choice.decoder,
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


def _decode_rate(
    videos: Sequence[tuple[Video, VideoFacts]], source: ModelSource, reader: DecoderName, cores: int, seconds: float
) -> DecodeRate:
    """Reads the videos over and over in ``cores`` processes."""
    with ThreadPoolExecutor(cores) as threads:
        rates = list(threads.map(lambda _: _decode(videos, source, reader, seconds), range(cores)))
    return DecodeRate(reader, cores, sum(frames for frames, _ in rates), sum(windows for _, windows in rates))


def _decode(
    videos: Sequence[tuple[Video, VideoFacts]], source: ModelSource, reader: DecoderName, seconds: float
) -> tuple[float, float]:
    """Source frames and windows per second of one process."""
    info = source.info
    frames, windows = 0.0, 0
    with DecoderProcess() as decoder:
        # The first one starts the process.
        decoder.probe(videos[0][0].path)
        started_s = time.perf_counter()
        for video, facts in itertools.cycle(videos):
            for span in decoder.spans(video.path, info.sampling, info.preprocessing, choice=Choice(reader)):
                windows += len(span.windows)
                frames += sum(window.end_s - window.start_s for window in span.windows) * (facts.fps or 0.0)
                # decord reads a video to its end before its first windows come.
                if time.perf_counter() - started_s >= seconds and (reader == "pyav" or span.end is not None):
                    passed_s = time.perf_counter() - started_s
                    return frames / passed_s, windows / passed_s
    raise AssertionError("the cycle has no end")


class _ModelActor:
    """A model in a process of its own, as in the pipeline."""

    def __init__(self, source: ModelSource, device: "DeviceName", precision: "PrecisionName", threads: int):
        import torch

        torch.set_num_threads(threads)
        self._classifier = source.load(device, precision)
        size = source.info.preprocessing.size
        self._shape = (source.info.sampling.num_frames, size, size, 3)

    def about(self) -> tuple[str, int]:
        """The precision in use, and the operations for a window."""
        from tagger.classifier import PRECISIONS

        (name,) = (name for name, precision in PRECISIONS.items() if precision == self._classifier.precision)
        return name, self._classifier.operations(self._shape[0])

    def rate(self, batch_size: int, seconds: float) -> float:
        """Windows per second, by the median of the steps."""
        clips = np.random.default_rng(0).integers(0, 256, (batch_size, *self._shape), dtype=np.uint8)
        return batch_size / _median_s(lambda: self._classifier.classify(clips, batch_size), seconds)

    def peak(self, seconds: float) -> float:
        """Operations per second of the product of two large matrices."""
        import torch

        device, precision = self._classifier.device, self._classifier.precision
        # As PyTorch computes the model's float32 convolutions on a GPU, by default.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        a, b = (torch.randn(MATRIX, MATRIX, device=device).to(precision) for _ in range(2))

        def multiply() -> None:
            torch.mm(a, b)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return 2 * MATRIX**3 / _median_s(multiply, seconds)


def _median_s(step: Callable[[], object], seconds: float) -> float:
    """The median time of ``step``, done for ``seconds`` and at least three times after a warm-up."""
    step()
    times_s: list[float] = []
    while len(times_s) < 3 or sum(times_s) < seconds:
        started_s = time.perf_counter()
        step()
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s)


@dataclass(frozen=True)
class _Models:
    """What the model does in one precision."""

    precision: str
    flop: int
    flop_per_s: float
    rates: tuple[ModelRate, ...]


def _measure_model(source: ModelSource, workers: Workers, precision: "PrecisionName", seconds: float) -> _Models:
    """Times one actor, then all of them at the same time."""
    import ray

    actor: Any = ray.remote(num_cpus=0, num_gpus=workers.actor_gpus)(_ModelActor)
    actors = [actor.remote(source, workers.device, precision, workers.threads) for _ in range(workers.actors)]
    name, flop = ray.get(actors[0].about.remote())
    rates = []
    for count in sorted({1, workers.actors}):
        some = actors[:count]
        peak = sum(ray.get([actor.peak.remote(seconds / 4) for actor in some]))
        for batch_size in BATCH_SIZES[workers.device]:
            try:
                rate = sum(ray.get([actor.rate.remote(batch_size, seconds) for actor in some]))
            except ray.exceptions.RayTaskError as error:
                if "out of memory" in str(error).lower():
                    break
                raise
            rates.append(ModelRate(name, count, batch_size, rate, rate * flop / peak))
    for one in actors:
        ray.kill(one)
    return _Models(name, flop, peak, tuple(rates))


def _transport_rate(source: ModelSource, rows: int) -> float:
    """Bytes per second from one process to another through the object store, written and read once."""
    import ray

    size = source.info.preprocessing.size
    shape = (source.info.sampling.num_frames, size, size, 3)

    class Sender:
        def __init__(self) -> None:
            windows = tuple(Window(row, float(row), row + 1.0) for row in range(rows))
            self._span = Span(windows, np.zeros((rows, *shape), np.uint8))

        def send(self) -> Any:
            return span_to_table(0, self._span, 0.0)

    class Receiver:
        def receive(self, table: Any) -> int:
            # Every cache line is read.
            return int(clips_of(table, shape).reshape(-1)[::64].sum())

    actors: list[Any] = [ray.remote(num_cpus=0)(each) for each in (Sender, Receiver)]
    sender, receiver = (actor.remote() for actor in actors)
    taken_s = []
    for _ in range(1 + ROUNDS):
        started_s = time.perf_counter()
        ray.get(receiver.receive.remote(sender.send.remote()))
        taken_s.append(time.perf_counter() - started_s)
    for one in (sender, receiver):
        ray.kill(one)
    return rows * math.prod(shape) / statistics.median(taken_s[1:])


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

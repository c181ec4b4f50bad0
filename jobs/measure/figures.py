"""The figures that ``vtag bench`` measures, and those that follow from them."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jobs.measure.rates import ModelRate, fastest
from jobs.tagging.decode_trial import DecodeRate
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import DecoderName

Part = Literal["decoding", "model"]

DERIVED_FIELDS = (
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
"""Properties that are computed from the measurements and written to JSON with them."""


@dataclass(frozen=True)
class Bench:
    """The measurements, with the ``precision`` and the ``reader`` that vtag chooses on this machine.

    ``decode`` and ``model`` have the rates of one core or actor, and of all of them. A rate that was measured several
    times is the median. ``gflop_per_window`` is the arithmetic of the model, ``gflop_per_s`` the peak of all actors
    together, by precision. ``ceilings`` and ``pipelines`` have one item per round, in windows per second: what decoding
    and the model allowed together, and what the pipeline reached. ``start_s`` is the time until the first windows of
    the first pipeline came back; no rate includes it. Windows start every ``hop_s`` seconds. ``video_s_per_window`` is
    the length of video per window.
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
    hop_s: float
    video_s_per_window: float

    @property
    def decode_windows_per_s(self) -> float:
        """Rate of all cores when they do nothing but decode, with the chosen reader."""
        return fastest(self.decode, reader=self.reader, cores=self.cores).windows_per_s

    @property
    def model_windows_per_s(self) -> float:
        """Rate of all actors when nothing is decoded, in the chosen precision."""
        actors = max(rate.actors for rate in self.model)
        return fastest(self.model, precision=self.precision, actors=actors).windows_per_s

    @property
    def ceiling_windows_per_s(self) -> float:
        """Rate that decoding and the model allow together."""
        return statistics.median(self.ceilings)

    @property
    def pipeline_windows_per_s(self) -> float:
        """Rate of the pipeline."""
        return statistics.median(self.pipelines)

    @property
    def realtime(self) -> float:
        """Seconds of video tagged per second."""
        return self.pipeline_windows_per_s * self.video_s_per_window

    @property
    def efficiencies(self) -> tuple[float, ...]:
        """Rate of the pipeline over the ceiling, in each round."""
        return tuple(did / could for did, could in zip(self.pipelines, self.ceilings, strict=True))

    @property
    def efficiency(self) -> float:
        """The median of ``efficiencies``, not the median pipeline over the median ceiling."""
        return statistics.median(self.efficiencies)

    @property
    def cores_for_model(self) -> float:
        """Number of cores whose decoding, exact and without a GPU, keeps up with all actors."""
        is_sparse = any(rate.reader == "pyav-sparse" for rate in self.decode)
        one = fastest(self.decode, reader="pyav-sparse" if is_sparse else "pyav", cores=1)
        return self.model_windows_per_s / one.windows_per_s

    @property
    def bottleneck(self) -> Part:
        """The part that takes most of the time."""
        return "decoding" if self.decode_windows_per_s < self.model_windows_per_s else "model"

    def to_json(self) -> dict[str, Any]:
        """Returns all fields and the derived figures."""
        return asdict(self) | {name: getattr(self, name) for name in DERIVED_FIELDS}

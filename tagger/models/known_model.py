"""What vtag knows about a model that has a name: one record with all that belongs to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tagger.model_file import ModelInfo
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling


@dataclass(frozen=True)
class Weights:
    """The trained weights of a model, or those that its training starts from.

    ``source`` says who trained them on what, and where they are published; ``licence`` is what the source states.
    ``protocol`` says how the ``scores`` were measured. vtag downloads them from ``url``, which is empty for weights
    that come in a package. ``check`` says how a downloaded file is checked.
    """

    source: str
    licence: str
    protocol: str
    scores: Mapping[str, float] = field(default_factory=dict)
    url: str = ""
    check: str = ""

    @property
    def file_name(self) -> str:
        """The name of the downloaded file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class KnownModel:
    """A model that ``vtag models`` lists: a network that vtag can build, or the built-in model.

    ``samplings`` are the ways in which it may see the frames of a window, the default first. ``gflop`` is the
    approximate number of floating-point operations for a window of the default, in billions; ``gflop_with`` has that of
    a network with an option that changes it. ``weights`` is None for a network that is trained from scratch. A model
    with ``labels`` classifies with its downloaded weights; the labels of the built-in model are in its file.
    """

    name: str
    summary: str
    preprocessing: Preprocessing
    gflop: float
    gflop_with: Mapping[str, float] = field(default_factory=dict)
    samplings: tuple[Sampling, ...] = (Sampling(),)
    labels: tuple[str, ...] = ()
    weights: Weights | None = None
    is_trainable: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_downloaded(self) -> bool:
        """Whether the model classifies with weights that vtag downloads."""
        return bool(self.labels)

    def gflop_of(self, info: ModelInfo) -> float:
        """Returns the approximate GFLOP for a window of a model of this network: all its frames, in all crops."""
        gflop = next((gflop for option, gflop in self.gflop_with.items() if info.options.get(option)), self.gflop)
        pixels = info.preprocessing.crops * info.preprocessing.size**2 * info.sampling.num_frames
        return gflop * pixels / (self.preprocessing.size**2 * self.samplings[0].num_frames)

    def info(self) -> ModelInfo:
        """Returns the metadata that a model file would have. Only for a model that is downloaded."""
        assert self.is_downloaded and self.weights is not None, self.name
        return ModelInfo(
            architecture=self.name,
            labels=self.labels,
            sampling=self.samplings[0],
            preprocessing=self.preprocessing,
            training=self.training,
            scores=self.weights.scores,
        )

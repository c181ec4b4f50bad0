"""The main functions of the library: load a model, tag a video."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.clips import VideoEnd
from tagger.errors import ModelFileError, VideoError
from tagger.file_content import file_hash
from tagger.isolation import decoder_of_this_thread
from tagger.model_file import ModelInfo, read_model_info, read_weights
from tagger.models.embeddings.embedding import embedding_identity
from tagger.models.known_model import Weights
from tagger.models.registry import BUILTIN, KNOWN_MODELS, build_network, builtin_model_path
from tagger.segments import Segment, make_segments
from tagger.system.limits import usable_cores
from tagger.windows import Ranges, Sampling

if TYPE_CHECKING:
    from tagger.classifier import Classifier, DeviceName, PrecisionName
    from tagger.models.embeddings.answers import EmbeddingAnswers


@dataclass(frozen=True)
class ModelSource:
    """A model that has been found but not loaded. It is cheap to send to another process.

    ``file`` holds the weights: a vtag model file, or the checkpoint that ``weights`` describes.
    """

    name: str
    file: Path
    info: ModelInfo
    is_builtin: bool = False
    weights: Weights | None = None

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights file. Once computed, it is sent with the source to other processes."""
        return file_hash(self.file)

    @property
    def embeddings(self) -> dict[str, Any]:
        """All that the embeddings of a result depend on besides the model and the sampling, in a JSON form.

        ``size`` is the number of values of an embedding.
        """
        return embedding_identity(self.info)

    @property
    def file_here(self) -> Path:
        """The path of the weights on this machine. Each machine has its own copy of the built-in model."""
        return builtin_model_path() if self.is_builtin else self.file

    def is_here(self) -> bool:
        """Checks that the weights exist on this machine and match ``hash``."""
        try:
            return file_hash(self.file_here) == self.hash
        except OSError:
            return False

    def content(self) -> bytes:
        """Returns the content of the weights file, for a machine that does not have it. Raises ModelFileError."""
        try:
            content = self.file.read_bytes()
            is_same = hashlib.sha256(content).hexdigest() == self.hash
        except OSError as error:
            raise ModelFileError(f"{self.file} cannot be read: {(error.strerror or str(error)).lower()}") from error
        if not is_same:
            raise ModelFileError(f"{self.file} was replaced by another model in the meantime; run the command again")
        return content

    def with_file_from(self, content: bytes, folder: Path) -> "ModelSource":
        """Writes ``content`` to a file in ``folder`` and returns this model with that file. Raises ModelFileError."""
        file = folder / self.file.name
        file.write_bytes(content)
        source = replace(self, file=file, is_builtin=False)
        if source.hash != self.hash:
            raise ModelFileError(f"the weights of {self.name} were damaged on their way to this machine")
        return source

    def load(self, device: "DeviceName" = "auto", precision: "PrecisionName" = "auto") -> "Classifier":
        """Builds the network, loads the weights and moves it to the device."""
        from tagger.classifier import Classifier

        file = self.file_here
        network = build_network(self.info.architecture, len(self.info.labels), dict(self.info.options))
        if self.info.embedding is not None:
            from tagger.models.embeddings.embedder import Embedder

            network.embedder = Embedder(self.info.embedding.channels, self.info.embedding.size)
        if self.weights is not None:
            from tagger.models.model_zoo import CHECKPOINTS

            CHECKPOINTS[self.weights.file_name].load(network, file)
        else:
            try:
                network.load_state_dict(read_weights(file))
            except RuntimeError as error:
                detail = " ".join(str(error).split())[:200]
                raise ModelFileError(f"{file} does not hold the weights it describes ({detail})") from error
        info = self.info
        return Classifier(network, info.preprocessing, info.temperature, info.ood, device=device, precision=precision)

    def load_answers(self) -> "EmbeddingAnswers":
        """Loads the head only, to classify embeddings. Raises ModelFileError when embeddings do not keep enough."""
        from tagger.models.embeddings.answers import EmbeddingAnswers

        return EmbeddingAnswers.load(self.name, self.file_here, self.info)


def find_model(model: str = BUILTIN, weights: str | Path | None = None, *, frames: int | None = None) -> ModelSource:
    """Finds a model by name or file. Downloads the Kinetics weights if they are needed and not in the cache.

    ``weights`` is a local checkpoint for a model whose weights are downloaded. ``frames`` is the number of frames that
    the model sees of each window, spread over the same time; by default as many as it was trained on. Raises
    ModelFileError for an unknown name, a bad file or a number of frames that the model does not take, WeightsError when
    the weights cannot be read or downloaded.
    """
    known = KNOWN_MODELS.get(model)
    if known is not None and known.is_downloaded:
        sampling = _chosen(frames, known.samplings, model)  # Before the download.
        source = _find_model(model, weights)
    else:
        source = _find_model(model, weights)
        sampling = _chosen(frames, (source.info.sampling,), source.name)
    return replace(source, info=replace(source.info, sampling=sampling))


def _chosen(frames: int | None, samplings: Sequence[Sampling], model: str) -> Sampling:
    """Returns the sampling with this number of frames, by default the first. Raises ModelFileError without one."""
    for sampling in samplings:
        if frames in (None, sampling.num_frames):
            return sampling
    possible = " or ".join(str(sampling.num_frames) for sampling in samplings)
    raise ModelFileError(f"--frames {frames}: {model} takes {possible} frames of a window")


def _find_model(model: str, weights: str | Path | None) -> ModelSource:
    known = KNOWN_MODELS.get(model)
    downloaded = [name for name, each in KNOWN_MODELS.items() if each.is_downloaded]
    if weights is not None and model not in downloaded:
        raise ModelFileError(
            f"--weights is for {' and '.join(downloaded)}; {model!r} has its own weights (pass a model file with "
            "--model)"
        )
    if model == BUILTIN:
        return ModelSource(BUILTIN, builtin_model_path(), read_model_info(builtin_model_path()), is_builtin=True)
    if known is not None and known.is_downloaded and known.weights is not None:
        from tagger.models.weights import find_weights

        return ModelSource(model, find_weights(known.weights, weights), known.info(), weights=known.weights)
    if known is not None:
        raise ModelFileError(f"{model} must be trained first: vtag train DATA --model {model} --out model.safetensors")
    if "://" in model:
        raise ModelFileError(f"{model}: models are read from local files only; copy it to this machine first")
    path = Path(model).absolute()
    if not model or (not path.exists() and path.suffix != ".safetensors"):
        names = ", ".join([BUILTIN, *downloaded])
        raise ModelFileError(f"there is no model {model!r}; use {names}, or the path of a model file")
    return ModelSource(path.stem, path, read_model_info(path))


class Tagger:
    """A loaded model. It predicts in this process, and decodes videos in a separate process for each thread."""

    def __init__(self, source: ModelSource, device: "DeviceName" = "auto", precision: "PrecisionName" = "auto"):
        self.source = source
        self.labels = source.info.labels
        self.sampling = source.info.sampling
        self.classifier = source.load(device, precision)

    def tag(
        self,
        path: str | Path,
        *,
        hop_s: float | None = None,
        top_k: int = 5,
        fast_decode: bool = False,
        only: Ranges | None = None,
    ) -> list[Segment]:
        """Returns the segments of one video in order.

        ``hop_s`` is the distance between window starts in seconds (default: no overlap); ``fast_decode`` as in
        Sampling. ``only`` are ranges of the video, pairs of start and end in seconds: only segments that show something
        of them are returned, the same as without ``only``. Raises VideoError when the video cannot be read completely.
        ``read`` returns the readable part.
        """
        segments, end = self.read(path, hop_s=hop_s, top_k=top_k, fast_decode=fast_decode, only=only)
        if end.error_kind is not None:
            raise VideoError(end.error_kind, end.error or "unknown")
        return segments

    def read(
        self,
        path: str | Path,
        *,
        hop_s: float | None = None,
        top_k: int = 5,
        fast_decode: bool = False,
        only: Ranges | None = None,
    ) -> tuple[list[Segment], VideoEnd]:
        """Returns the segments of the readable part of a video, and how reading ended. Never raises VideoError."""
        sampling = replace(
            self.sampling,
            hop_s=self.sampling.hop_s if hop_s is None else hop_s,
            fast_decode=fast_decode or self.sampling.fast_decode,
        )
        segments: list[Segment] = []
        preprocessing, threads = self.source.info.preprocessing, usable_cores()
        for span in decoder_of_this_thread().spans(path, sampling, preprocessing, only=only, threads=threads):
            if span.windows:
                probabilities, ood_scores = self.classifier.classify(span.clips)
                segments += make_segments(span.windows, probabilities, self.labels, top_k, ood_scores)
            if span.end is not None:
                return segments, span.end
        raise AssertionError("the last span always has the end")


def load_model(
    model: str = BUILTIN,
    *,
    weights: str | Path | None = None,
    frames: int | None = None,
    device: "DeviceName" = "auto",
    precision: "PrecisionName" = "auto",
) -> Tagger:
    """Loads a model by name or file: ``load_model().tag("clip.mp4")`` returns segments. See ``find_model``."""
    return Tagger(find_model(model, weights, frames=frames), device, precision)

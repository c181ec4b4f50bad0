"""The model actor: takes windows and returns segments."""

import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.cluster.memory import keep_freed_memory
from jobs.tagging.transport import clips_of, segments_table
from tagger.errors import doing
from tagger.segments import make_segments
from tagger.system.limits import usable_cores
from tagger.tagger import ModelSource
from tagger.windows import Sampling, Window

if TYPE_CHECKING:
    from tagger.classifier import Classifier, DeviceName, PrecisionName


class Predictor:
    """An actor with a loaded model: takes tables of WINDOWS_SCHEMA and returns tables of SEGMENTS_SCHEMA.

    ``content`` is a reference to the bytes of the weights file, for a machine that does not have it. ``embeddings``:
    the tables get a column with the embeddings of the windows.
    """

    def __init__(
        self,
        source: ModelSource,
        content: Any,
        sampling: Sampling,
        device: "DeviceName",
        threads: int,
        top_k: int,
        batch_size: int | None,
        precision: "PrecisionName" = "auto",
        embeddings: bool = False,
    ):
        # Processes that do not need torch import this module, too; torch takes half a gigabyte.
        import torch

        # Frames from the object store are read-only, and nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        keep_freed_memory()
        # The number is computed from the cores of the whole cluster; this machine may have fewer.
        torch.set_num_threads(min(threads, usable_cores()))
        with doing("loading the model", source.name):
            self._classifier = _load(source, content, device, precision)
        self._labels = source.info.labels
        self._shape = (sampling.num_frames, *source.info.preprocessing.shape)
        self._top_k = top_k
        self._batch_size = batch_size
        self._no_embeddings = np.empty((0, self._classifier.embedding_size), np.float16) if embeddings else None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Classifies the windows of ``table``."""
        started, cpu_started = time.perf_counter(), time.process_time()
        clips = clips_of(table, self._shape)
        segments = []
        embeddings = self._no_embeddings
        if len(clips):
            with doing(f"classifying {len(clips)} windows"):
                if embeddings is None:
                    probabilities, ood_scores = self._classifier.classify(clips, self._batch_size)
                else:
                    probabilities, ood_scores, embeddings = self._classifier.classify_and_embed(clips, self._batch_size)
            columns = [table.column(name).drop_null().to_pylist() for name in ("window", "start_s", "end_s")]
            windows = [Window(*values) for values in zip(*columns, strict=True)]
            segments = make_segments(windows, probabilities, self._labels, self._top_k, ood_scores)
        passed_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        return segments_table(table, segments, passed_s, cpu_s, embeddings)


def _load(source: ModelSource, content: Any, device: "DeviceName", precision: "PrecisionName") -> "Classifier":
    if source.is_here():
        return source.load(device, precision)
    import ray

    with tempfile.TemporaryDirectory(prefix="vtag-model-") as folder:
        return source.with_file_from(ray.get(content), Path(folder)).load(device, precision)

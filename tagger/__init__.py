"""Everything that one process needs to tag one video: reading video, windows, models, prediction, the output schema.

``tagger.load_model().tag("clip.mp4")`` returns segments.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tagger.errors import (
    ERROR_KINDS,
    DataSetError,
    InputError,
    ModelFileError,
    OutputError,
    VideoError,
    VtagError,
    WeightsError,
)
from tagger.windows import Sampling, Window

if TYPE_CHECKING:
    from tagger.classifier import Classifier
    from tagger.clips import Span, VideoEnd, read_spans
    from tagger.inspection import Inspection, inspect_video
    from tagger.live.watch import LiveSegment, watch
    from tagger.model_file import ModelInfo, read_model_info, save_model_file
    from tagger.ood import OODCalibration
    from tagger.preprocessing import Preprocessing
    from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
    from tagger.segments import Segment, make_segments
    from tagger.tagger import ModelSource, Tagger, find_model, load_model

__version__ = "0.1.0"

__all__ = [
    "ERROR_KINDS",
    "TAGS_SCHEMA",
    "VIDEOS_SCHEMA",
    "Classifier",
    "DataSetError",
    "InputError",
    "Inspection",
    "LiveSegment",
    "ModelFileError",
    "ModelInfo",
    "ModelSource",
    "OODCalibration",
    "OutputError",
    "Preprocessing",
    "Sampling",
    "Segment",
    "Span",
    "Tagger",
    "VideoEnd",
    "VideoError",
    "VtagError",
    "WeightsError",
    "Window",
    "find_model",
    "inspect_video",
    "load_model",
    "make_segments",
    "read_model_info",
    "read_spans",
    "save_model_file",
    "watch",
]

_LAZY = {
    "Classifier": "classifier",
    "Preprocessing": "preprocessing",
    "Span": "clips",
    "VideoEnd": "clips",
    "read_spans": "clips",
    "Inspection": "inspection",
    "inspect_video": "inspection",
    "LiveSegment": "live.watch",
    "watch": "live.watch",
    "ModelInfo": "model_file",
    "read_model_info": "model_file",
    "save_model_file": "model_file",
    "OODCalibration": "ood",
    "TAGS_SCHEMA": "schema",
    "VIDEOS_SCHEMA": "schema",
    "Segment": "segments",
    "make_segments": "segments",
    "ModelSource": "tagger",
    "Tagger": "tagger",
    "find_model": "tagger",
    "load_model": "tagger",
}


def __getattr__(name: str) -> Any:
    """Imports torch, PyAV and pyarrow only when something that needs them is used, so that ``vtag --help`` is quick."""
    if name in _LAZY:
        return getattr(import_module(f"tagger.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'tagger' has no attribute {name!r}")

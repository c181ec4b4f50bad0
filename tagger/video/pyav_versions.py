"""What differs between the versions of PyAV that vtag supports. Each goes when its version is the oldest of them."""

from typing import Any

import av

VERSION = int(av.__version__.split(".")[0])

READS_FROM_GPU = VERSION >= 18
"""Whether a frame on a GPU tells its pixel format (``VideoFrame.sw_format``), without which it cannot be copied."""

TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if VERSION < 19 else {}
"""Arguments of ``av.open`` for files whose metadata may be in any encoding. PyAV 19 always reads them so."""

"""Differences between the supported versions of PyAV. Each can be removed together with the older version."""

from typing import Any

import av

VERSION = int(av.__version__.split(".")[0])

READS_FROM_GPU = VERSION >= 18
"""Whether a frame on a GPU has its pixel format (``VideoFrame.sw_format``), which is needed to copy it."""

TOLERANT_OPEN_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if VERSION < 19 else {}
"""Arguments of ``av.open`` for files whose metadata may have any encoding. PyAV 19 always tolerates that."""

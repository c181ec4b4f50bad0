"""Differences between the supported versions of pyarrow. To be removed when pyarrow 21 is the oldest of them."""

from typing import Any

import pyarrow as pa

HAS_S3_OPTIONS = int(pa.__version__.split(".")[0]) >= 21
"""True if ``S3FileSystem`` takes ``allow_delayed_open`` and ``tls_ca_file_path``."""

DELAYED_OPEN: dict[str, Any] = {"allow_delayed_open": True} if HAS_S3_OPTIONS else {}
"""Arguments of ``S3FileSystem``. With them, writing a small object takes one request instead of three."""

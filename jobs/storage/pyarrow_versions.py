"""What differs between the versions of pyarrow that vtag supports. Goes when pyarrow 21 is the oldest of them."""

from typing import Any

import pyarrow as pa

HAS_S3_OPTIONS = int(pa.__version__.split(".")[0]) >= 21
"""Whether ``S3FileSystem`` takes ``allow_delayed_open`` and ``tls_ca_file_path``."""

DELAYED_OPEN: dict[str, Any] = {"allow_delayed_open": True} if HAS_S3_OPTIONS else {}
"""Arguments of ``S3FileSystem`` with which writing a small object takes one request instead of three."""

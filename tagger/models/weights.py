"""The Kinetics-400 weights: a given file, the file in the cache, or a download to the cache."""

import os
from pathlib import Path

from tagger.errors import WeightsError
from tagger.models.download import download_once
from tagger.system.home import user_cache_folder

URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/I3D_8x8_R50.pyth"
"""pytorchvideo's model zoo. ``VTAG_WEIGHTS_URL`` names a mirror."""

FILE_NAME = "I3D_8x8_R50.pyth"


def kinetics_weights(weights: str | Path | None = None) -> Path:
    """Returns the checkpoint for ``i3d-kinetics400``: ``weights`` if given, else the cached file, else a download.

    Raises WeightsError when there is no such file or it cannot be downloaded; the message names ``--weights FILE``.
    """
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise WeightsError(f"--weights {path}: there is no such file")
        return path
    # No checksum is published for this file, so its structure is checked instead.
    from tagger.models.i3d import checkpoint_shapes, read_checkpoint

    return download_once(
        os.environ.get("VTAG_WEIGHTS_URL") or URL,
        cache_dir() / FILE_NAME,
        check=lambda file: read_checkpoint(file, checkpoint_shapes()),
    )


def cache_dir() -> Path:
    """Returns the folder for downloads: ``VTAG_CACHE``, else ``vtag`` in the user's cache folder."""
    if cache := os.environ.get("VTAG_CACHE"):
        return Path(cache)
    return user_cache_folder() / "vtag"

"""Downloaded weights: a given file, the file in the cache, or a download to the cache."""

import os
from pathlib import Path

from tagger.errors import WeightsError
from tagger.models.download import download_once
from tagger.models.known_model import Weights
from tagger.system.home import user_cache_folder


def find_weights(weights: Weights, file: str | Path | None = None) -> Path:
    """Returns the file of ``weights``: ``file`` if given, else the cached file, else a download.

    ``VTAG_WEIGHTS_URL`` names a mirror: a file, or a folder if it ends with a slash. Raises WeightsError when there is
    no such file or it cannot be downloaded; the message names ``--weights FILE``.
    """
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise WeightsError(f"--weights {path}: there is no such file")
        return path
    from tagger.models.model_zoo import CHECKPOINTS

    mirror = os.environ.get("VTAG_WEIGHTS_URL", "")
    url = mirror + weights.file_name if mirror.endswith("/") else mirror or weights.url
    return download_once(url, cached_file(weights), check=CHECKPOINTS[weights.file_name].read)


def cached_file(weights: Weights) -> Path:
    """Returns the path that ``weights`` are downloaded to."""
    return cache_dir() / weights.file_name


def cache_dir() -> Path:
    """Returns the folder for downloads: ``VTAG_CACHE``, else ``vtag`` in the user's cache folder."""
    if cache := os.environ.get("VTAG_CACHE"):
        return Path(cache)
    return user_cache_folder() / "vtag"

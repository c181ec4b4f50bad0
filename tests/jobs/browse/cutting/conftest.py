"""The video that most tests cut."""

from pathlib import Path

import pytest

from tests.jobs.browse.cutting.shown_frames import RATE
from tests.videos import encode


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds with a key frame every 24 frames, and B-frames."""
    return encode(tmp_path_factory.mktemp("videos") / "a.mp4", seconds=8, rate=RATE)

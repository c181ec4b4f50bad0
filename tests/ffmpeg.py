"""What FFmpeg's own program shows."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.videos import read_frame_number


def shown_at(path: Path, time_s: float, width: int = 96, height: int = 64) -> int:
    """The number of the first frame of a test video that FFmpeg gives when it seeks to a time."""
    words = [_program(), "-v", "error", "-ss", f"{time_s:.3f}", "-i", str(path), "-frames:v", "1"]
    done = subprocess.run([*words, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return read_frame_number(np.frombuffer(done.stdout, np.uint8).reshape(height, width, 3))


def _program() -> str:
    """FFmpeg's program: the installed one, or that of a package."""
    return shutil.which("ffmpeg") or str(
        pytest.importorskip("imageio_ffmpeg", reason="it carries the program ffmpeg").get_ffmpeg_exe()
    )

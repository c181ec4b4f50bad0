"""Command lines that play a video from a moment on."""

import shlex
import shutil

import pyarrow as pa

from jobs.browse.recorded import read_recorded
from jobs.browse.segments import FinishedResult
from jobs.storage.address import is_address, split

PLAYERS = {"mpv": "--start={}", "ffplay": "-ss {}"}
"""Players, and their option for the start in seconds."""


def find_player() -> str:
    """Returns the first of ``PLAYERS`` that is installed here, or the first of them all."""
    return next(filter(shutil.which, PLAYERS), next(iter(PLAYERS)))


def play_line(video: str, start_s: float, player: str = "mpv") -> str | None:
    """Returns a line for a shell that plays ``video``; None when no player can open its address.

    ``start_s`` is the start as players count it. An object in S3 is played through an address that the AWS command line
    signs.
    """
    start = f"{player} {PLAYERS[player].format(f'{start_s:.3f}'.rstrip('0').rstrip('.'))}"
    if not is_address(video):
        return f"{start} {_one_word(video)}"
    scheme = split(video)[0]
    # A name that is not UTF-8 is stored as a file: address, which mpv plays.
    if scheme in ("http", "https", "file"):
        return f"{start} {_one_word(video)}"
    return f'{start} "$(aws s3 presign {_one_word(video)})"' if scheme == "s3" else None


def _one_word(text: str) -> str:
    """Returns ``text`` as one word of a shell. Unprintable characters are escaped, as bash and zsh read them."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.replace("\\", r"\\").replace("'", r"\'")
    characters = (
        char if char.isprintable() else "".join(rf"\x{byte:02x}" for byte in char.encode()) for char in escaped
    )
    return f"$'{''.join(characters)}'"


def with_play_lines(finished: FinishedResult, moments: pa.Table, player: str) -> pa.Table:
    """Returns ``moments`` of a result with the column ``play``, made from ``video`` and ``start_s``.

    Players count from the start of the file, which may be before the first frame.
    """
    videos = moments["video"].to_pylist()
    recorded = read_recorded(finished, videos)
    starts = ((recorded[video].stream_start_s if video in recorded else None) or 0.0 for video in videos)
    lines = [
        play_line(video, start_s + stream_start_s, player)
        for video, start_s, stream_start_s in zip(videos, moments["start_s"].to_pylist(), starts, strict=True)
    ]
    return moments.append_column("play", pa.array(lines, pa.string()))

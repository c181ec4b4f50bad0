"""Checks a playlist of HLS (RFC 8216) before FFmpeg follows it.

FFmpeg reads each playlist that a playlist names, also one that names itself: again and again, thousands of times.
"""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urljoin

from tagger.errors import VideoError

MAX_PLAYLISTS = 50
"""Playlists that a playlist may name: a broadcast has about ten qualities, and some languages."""

QUALITY = "#EXT-X-STREAM-INF:"
"""Begins the line before the address of a playlist."""

RENDITION = re.compile(r'#EXT-X-MEDIA:.*\bURI="([^"]+)"')
"""A line with the address of a playlist, of another language for example."""


def named_playlists(text: str, address: str) -> list[str]:
    """Returns the addresses of the playlists that the playlist ``text`` at ``address`` names, each once."""
    return list(dict.fromkeys(urljoin(address, name) for name in _names(text)))


def _names(text: str) -> Iterator[str]:
    is_next = False
    for line in map(str.strip, text.splitlines()):
        if rendition := RENDITION.match(line):
            yield rendition[1]
        elif line.startswith(QUALITY):
            is_next = True
        elif is_next and line and not line.startswith("#"):
            is_next = False
            yield line


def check_playlist(address: str, read: Callable[[str], str]) -> None:
    """Raises VideoError for a playlist of playlists that name playlists in turn, which RFC 8216 forbids (4.3.4.2).

    ``read`` returns the text at an address. Where there is none, FFmpeg says why.
    """
    named = named_playlists(read(address), address)
    if len(named) > MAX_PLAYLISTS:
        raise VideoError("unsupported", f"its playlist names {len(named)} playlists; vtag follows {MAX_PLAYLISTS}")
    for each in named:
        if each == address:
            raise VideoError("not_video", "its playlist names itself")
        if named_playlists(read(each), each):
            raise VideoError(
                "not_video", "its playlist names one that names playlists in turn; give the address of one of these"
            )

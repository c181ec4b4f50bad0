"""The sources that can be watched, and what FFmpeg may open for each of them."""

import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from tagger.errors import InputError, one_line

SourceKind = Literal["camera", "stream", "pipe", "file"]

WEB = "http,https,tls,tcp,crypto"
"""A server may lead from ``http://`` to ``https://``. HLS uses ``crypto`` to decrypt what it has read by these."""

PROTOCOLS = {
    "rtsp": "rtsp,tcp",
    "rtsps": "rtsps,tls,tcp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "http": WEB,
    "https": WEB,
    "tcp": "tcp",
    "udp": "udp",
}
"""The protocols that FFmpeg may use for an address that begins with the key. Files are never among them, so a playlist
can name no file of this machine."""

STREAM_FORMATS = {"rtsp": ("rtsp",), "rtsps": ("rtsp",), "http": ("hls",), "https": ("hls",)}
"""Formats of FFmpeg that refer to other addresses, and are opened all the same."""

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

CAMERA = re.compile(r"/dev/video\d+")

PASSWORD = re.compile(r"(://[^:/?#@]*):.*@")
"""The password of an address, also one with characters such as @ and / that should have been encoded."""

SECRET = re.compile(r"((?:pass|pwd|psw|secret|token|key|auth|sig)[a-z]*=)[^&;#]*", re.IGNORECASE)
"""A secret in the path or the query of an address, as in ``/video?user=ada&password=...``."""

HIDDEN = "***"


@dataclass(frozen=True)
class LiveSource:
    """A source that has been checked, but not opened.

    ``name`` is for people: it has no password and no other secret. ``address`` is what FFmpeg opens, with the format
    ``format`` if it is not found by itself. ``protocols`` and ``formats`` are all that FFmpeg may use besides formats
    that refer to nothing else, and ``options`` are further options of FFmpeg.
    """

    name: str
    kind: SourceKind
    address: str
    format: str | None = None
    protocols: str = ""
    formats: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be opened again after it was lost."""
        return self.kind in ("camera", "stream")

    @property
    def is_live(self) -> bool:
        """Whether it certainly is no recording. A web server and standard input may give one."""
        return self.kind == "camera" or (self.kind == "stream" and not self.address.lower().startswith("http"))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "LiveSource":
        """The inverse of ``to_json`` after a round trip through JSON."""
        options = tuple((name, value) for name, value in values["options"])
        return cls(**values | {"formats": tuple(values["formats"]), "options": options})


def parse_source(text: str) -> LiveSource:
    """Returns the source that ``text`` names. Raises InputError when it is none, or is certainly not there.

    It is a camera (``/dev/video0``, or its number), an address (``rtsp://``, ``rtmp://``, ``http://``, ``https://``,
    ``udp://``, ``tcp://``), ``-`` for standard input, or a file.
    """
    if not text:
        raise InputError("the source is empty; give a camera, an address, a file, or - for standard input")
    if text == "-":
        return LiveSource("standard input", "pipe", "-")
    if text.isascii() and text.isdecimal():
        text = f"/dev/video{int(text)}"
    if CAMERA.fullmatch(text):
        return _camera(text)
    if scheme := SCHEME.match(text):
        return _stream(text, scheme[1].lower())
    return _file(text)


def _camera(device: str) -> LiveSource:
    try:
        is_device = stat.S_ISCHR(Path(device).stat().st_mode)
    except OSError:
        there = sorted(str(path) for path in Path("/dev").glob("video*"))
        found = f"this machine has {', '.join(there)}" if there else "this machine has no camera"
        raise InputError(f"there is no camera {device}; {found}") from None
    if not is_device:
        raise InputError(f"{device} is not a camera")
    return LiveSource(device, "camera", device, format="v4l2", formats=("v4l2", "video4linux2"))


def without_secrets(address: str) -> str:
    """Returns an address for a message, without its password and other secrets. It may be no address at all."""
    return _without_secret_values(PASSWORD.sub(r"\1@", address))


def _without_secret_values(address: str) -> str:
    return SECRET.sub(rf"\1{HIDDEN}", address)


def _stream(text: str, scheme: str) -> LiveSource:
    if scheme not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        shown = one_line(without_secrets(text))
        raise InputError(f"{shown}: vtag watches no {scheme}:// addresses, but {known}, cameras, files and -")
    try:
        parts = urlsplit(text)
        port = parts.port  # A port that is no number is an error.
        is_complete = bool(parts.hostname) and (scheme not in ("udp", "tcp") or port is not None)
    except ValueError:
        is_complete = False
    if not is_complete or any(character.isspace() or not character.isprintable() for character in text):
        rest = ":PORT" if scheme in ("udp", "tcp") else "/..."
        shown = one_line(without_secrets(text))
        raise InputError(f"{shown} is not a complete address; give {scheme}://HOST{rest}")
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    name = _without_secret_values(urlunsplit((parts.scheme, user + host, parts.path, parts.query, parts.fragment)))
    # Over UDP, packets would be lost without a sign; behind many routers, none would arrive.
    options = (("rtsp_transport", "tcp"),) if scheme in ("rtsp", "rtsps") else ()
    return LiveSource(name, "stream", text, None, PROTOCOLS[scheme], STREAM_FORMATS.get(scheme, ()), options)


def _file(text: str) -> LiveSource:
    path = Path(text).absolute()
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no such file"
        raise InputError(f"{one_line(text)} cannot be watched: {why.lower()}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{one_line(text)} is a folder, not a picture")
    if not stat.S_ISREG(mode):
        raise InputError(f"{one_line(text)} is not a regular file; for a pipe, give - and read from it: vtag watch - <")
    return LiveSource(str(path), "file", str(path))

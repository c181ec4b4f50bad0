"""What FFmpeg logs about the network. Its errors say less, and HLS ends without any when its server fails."""

import logging
import re

import av

NETWORK = frozenset({"libav.http", "libav.https", "libav.hls", "libav.tls", "libav.tcp", "libav.crypto"})
"""The loggers of the parts of FFmpeg that open addresses."""

MEANINGS = (
    (re.compile(r"Protocol '(.*)' not on whitelist"), "it leads to {0}:, which vtag does not open for this address"),
    (re.compile(r"Peer certificate failed verification"), "its certificate is not trusted"),
    (re.compile(r"certificate's owner does not match hostname (\S+)"), "its certificate is not that of {0}"),
    (re.compile(r"An unexpected TLS packet was received"), "it does not speak TLS"),
    (
        re.compile(r"Error reading HTTP response|Cannot read RTMP handshake response"),
        "it ended the connection without an answer",
    ),
    (re.compile(r"Stream ends prematurely"), "the connection broke off"),
    (re.compile(r"Failed to resolve hostname (\S+):"), "the host {0} is not found"),
)
"""Messages of FFmpeg, and what they mean for a person."""


class NetworkLog(logging.Handler):
    """Listens to FFmpeg from now on. A process needs one.

    ``reason`` is why the last address was not opened, if that is known. ``has_trouble`` is whether anything was logged
    about the network.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason: str | None = None
        self.has_trouble = False
        logger = logging.getLogger("libav")
        logger.addHandler(self)
        logger.propagate = False
        av.logging.set_level(av.logging.WARNING)
        av.logging.set_skip_repeated(False)

    def forget(self) -> None:
        """Forgets what was logged until now."""
        self.reason, self.has_trouble = None, False

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self.has_trouble |= record.name in NETWORK
        message = record.getMessage()
        for pattern, meaning in MEANINGS:
            if found := pattern.search(message):
                self.reason = meaning.format(*found.groups())

"""Messages over a socket between a decoder process and its parent.

A message is its length, then JSON. It is never a pickle: a damaged or malicious video may control the decoder process,
so its messages are not trusted.
"""

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

LENGTH_PREFIX = struct.Struct("!I")
MAX_MESSAGE_BYTES = 4 * 2**20

Message = dict[str, Any]


class InvalidMessageError(Exception):
    """The data from the socket are not a valid message."""


def send(channel: socket.socket, message: Message) -> None:
    """Sends one message. Raises OSError when the other end is closed."""
    data = json.dumps(message).encode()
    channel.sendall(LENGTH_PREFIX.pack(len(data)) + data)


def receive(channel: socket.socket, on_wait: Callable[[], None] = lambda: None) -> Message | None:
    """Returns the next message, or None when the connection was closed. Calls ``on_wait`` after each socket timeout.

    Raises InvalidMessageError for invalid data, OSError when the connection breaks.
    """
    head = _receive_bytes(channel, LENGTH_PREFIX.size, on_wait)
    if not head:
        return None
    (length,) = LENGTH_PREFIX.unpack(head)
    if length > MAX_MESSAGE_BYTES:
        raise InvalidMessageError
    try:
        message = json.loads(_receive_bytes(channel, length, on_wait))
    except ValueError:
        raise InvalidMessageError from None
    if not isinstance(message, dict):
        raise InvalidMessageError
    return message


def _receive_bytes(channel: socket.socket, size: int, on_wait: Callable[[], None]) -> bytes:
    """Returns ``size`` bytes, or none when the connection ends before that."""
    data = bytearray()
    while len(data) < size:
        try:
            part = channel.recv(size - len(data))
        except TimeoutError:
            on_wait()
            continue
        if not part:
            return b""
        data += part
    return bytes(data)

"""The key/value format that Python and the C programs share (docs/protocol.md).

A message is a sequence of fields. A field is two unsigned 32-bit big-endian lengths (key,
value) followed by the key and the value. Order matters and keys may repeat.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from pinnace.errors import PinnaceError

_LENGTHS = struct.Struct(">II")

#: No message is larger; both sides refuse one that is (bytes).
MAX_MESSAGE = 8 << 20


def encode(fields: Iterable[tuple[str, bytes]]) -> bytes:
    """The message that holds ``fields`` in their order."""
    parts: list[bytes] = []
    for key, value in fields:
        name = key.encode("ascii")
        parts += (_LENGTHS.pack(len(name), len(value)), name, value)
    message = b"".join(parts)
    if len(message) > MAX_MESSAGE:
        raise PinnaceError(
            f"options and environment together take {len(message)} bytes, the limit is {MAX_MESSAGE}",
            hint="pass fewer or shorter options",
            identifier="message-too-large",
        )
    return message


def decode(message: bytes) -> Iterator[tuple[str, bytes]]:
    """The fields of ``message``. Raises PinnaceError if it is not well formed."""
    position = 0
    while position < len(message):
        if len(message) - position < _LENGTHS.size:
            raise _malformed()
        key_length, value_length = _LENGTHS.unpack_from(message, position)
        start = position + _LENGTHS.size
        position = start + key_length + value_length
        if position > len(message):
            raise _malformed()
        key = message[start : start + key_length]
        if not key.isascii():
            raise _malformed()
        yield key.decode("ascii"), message[start + key_length : position]


def _malformed() -> PinnaceError:
    return PinnaceError("a message between Pinnace's parts is malformed", identifier="protocol")

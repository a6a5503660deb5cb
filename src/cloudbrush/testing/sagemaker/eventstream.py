"""The frames of an event stream, as "Event stream encoding" of AWS's developer guides draws them."""

from __future__ import annotations

import json
import struct
from binascii import crc32

STRING = 7  # the type of a header's value; SageMaker's frames use no other


def part(payload: bytes) -> bytes:
    """A PayloadPart."""
    kind = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    return frame(kind, payload)


def failure(exception: str, message: str, **fields: str) -> bytes:
    """A ModelStreamError or InternalStreamFailure, which ends the stream."""
    kind = {":message-type": "exception", ":exception-type": exception}
    text = json.dumps({"Message": message, **fields})
    return frame({**kind, ":content-type": "application/json"}, text.encode())


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Lengths and their checksum, headers, payload, a checksum of it all; numbers are big-endian."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    lengths = struct.pack("!II", 12 + len(head) + len(payload) + 4, len(head))
    message = lengths + struct.pack("!I", crc32(lengths)) + head + payload
    return message + struct.pack("!I", crc32(message))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", STRING, len(text)) + text

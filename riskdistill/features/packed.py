"""An encoded row as text, to be kept with a decision: exact, so that models can be asked again.

Base64 of the deflated numbers: three uint32 (features, tokens, channels), then context and events as float32, all
little-endian. A row of 252 features and 48 tokens takes about 1 to 3 kB.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from typing import Final

import numpy as np

from riskdistill.errors import DataError
from riskdistill.features.encoded import Encoded

_HEAD: Final = struct.Struct("<3I")
_LARGEST: Final = 1 << 20  # bytes; no row is near it


def pack(encoded: Encoded) -> str:
    """Exactly one row as text."""
    head = _HEAD.pack(encoded.context.shape[1], *encoded.events.shape[1:])
    numbers = (encoded.context.astype("<f4").tobytes(), encoded.events.astype("<f4").tobytes())
    return base64.b64encode(zlib.compress(b"".join((head, *numbers)), 1)).decode("ascii")


def unpack(text: str) -> Encoded:
    """The row that `pack` made a text of.

    Raises:
        DataError: it is none.
    """
    try:
        inflating = zlib.decompressobj()
        raw = inflating.decompress(base64.b64decode(text, validate=True), _LARGEST)
        if not inflating.eof:
            raise ValueError("it is cut short, or too long")
        features, tokens, channels = _HEAD.unpack_from(raw)
        numbers = np.frombuffer(raw, "<f4", offset=_HEAD.size).astype(np.float32)
        context, events = np.split(numbers, [features])
        return Encoded(context.reshape(1, features), events.reshape(1, tokens, channels))
    except (binascii.Error, zlib.error, struct.error, ValueError) as error:
        raise DataError(f"a kept row of features cannot be read ({error})") from error

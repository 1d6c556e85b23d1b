"""The hash chain that makes a log tamper-evident.

Each entry's hash covers the hash before it, so that changing, removing or re-ordering an entry breaks every
link that follows. (Haber and Stornetta, "How to time-stamp a digital document", 1991.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

GENESIS: Final = "0" * 64


def canonical_json(payload: Mapping[str, Any]) -> str:
    """The one spelling of `payload` that is stored and hashed: sorted keys, no blanks, no NaN."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link(previous: str, body: str) -> str:
    """SHA-256 hex digest of an entry's canonical `body` chained to the `previous` entry's digest."""
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()

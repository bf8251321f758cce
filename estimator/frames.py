"""What a serving process and its workers say to each other, and how it lies in the pipe between them."""

from __future__ import annotations

import pickle
import struct
from typing import Any

HEADER = struct.Struct(">Q")
"""Length of the pickle that follows."""

Answer = tuple[str, Any, str]
"""``("done", body, media)``, ``("refused", class name, text)`` of an EstimatorError, or ``("failed", "", text)``."""


def pack(message: object) -> bytes:
    """One frame."""
    content = pickle.dumps(message, protocol=5)
    return HEADER.pack(len(content)) + content

"""Where in the user's program an object was made: debug mode's stack, without Weft's own frames.

The plain edition runs in frames that the compiled one doesn't have; leaving them out makes both tell the same.
"""

from __future__ import annotations

import os
import sys
import traceback
from asyncio import format_helpers

_RING = os.path.dirname(os.path.abspath(__file__)) + os.sep


def origin_of_caller() -> traceback.StackSummary:
    """The stack of whoever called into the ring, oldest frame first, as deep as asyncio's."""
    frame = sys._getframe(0)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(_RING):
        frame = frame.f_back
    return format_helpers.extract_stack(frame)

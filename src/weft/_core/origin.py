"""Where in the user's program an object was made: debug mode's stack, without Weft's own frames.

The plain edition runs in frames that the compiled one doesn't have; leaving them out makes both tell the same. They are known
by their modules' names: a path would have to be made absolute, which asks the system and so could block the loop.
"""

from __future__ import annotations

import sys
import traceback
from asyncio import format_helpers

_RING = __name__.rpartition(".")[0] + "."


def origin_of_caller() -> traceback.StackSummary:
    """The stack of whoever called into the ring, oldest frame first, as deep as asyncio's."""
    frame = sys._getframe(0)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_RING):
        frame = frame.f_back
    return format_helpers.extract_stack(frame)

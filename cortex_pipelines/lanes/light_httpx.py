"""httpx without its command line, which would load rich and pygments: two thirds of what its import takes."""

import sys
from typing import cast

_COMMAND_LINE = "httpx._main"

_left_out = "httpx" not in sys.modules
if _left_out:
    # httpx does without where it cannot be imported.
    cast(dict[str, None], sys.modules)[_COMMAND_LINE] = None

import httpx  # noqa: E402

if _left_out:
    del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]

"""How the interpreter of a running node is set up: short turns of the GIL, and no garbage collection of imports."""

from __future__ import annotations

import gc
import sys
from typing import Final

# A worker thread that runs Python code gives the event loop its turn after this time at the latest. The default of
# 5 ms shows in round trips while a backup runs; below 1 ms, switching itself begins to cost.
_SWITCH_INTERVAL_S: Final = 0.001
# Collecting the youngest generation every 700 objects, as by default, costs 2 % of a backup.
_YOUNGEST_OBJECTS: Final = 10_000


def set_up_interpreter() -> None:
    """Call once, after everything has been imported and before the event loop starts."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    # What was imported lives as long as the process; looking through its 100,000 objects takes 60 ms.
    gc.freeze()
    gc.set_threshold(_YOUNGEST_OBJECTS, 10, 10)

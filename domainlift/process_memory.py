"""Memory of this process."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def resident(*, most: bool) -> int | None:
    """Bytes that this process holds, or the most that it has held; None off Linux.

    Not `ru_maxrss`, which a process takes over from the one that started it.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = "VmHWM:" if most else "VmRSS:"
    return 1024 * int(status.read_text("ascii").partition(line)[2].split()[0])


def peak_resident() -> int:
    """The most bytes that this process has held, on any system."""
    held = resident(most=True)
    if held is not None:
        return held
    if sys.platform == "win32":
        # It comes with accelerate, and without types.
        return int(import_module("psutil").Process().memory_info().peak_wset)
    import resource

    factor = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor

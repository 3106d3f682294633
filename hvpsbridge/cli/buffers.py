"""How this process gets its memory, for commands that read chunk after chunk."""

from __future__ import annotations

import contextlib
import ctypes

from hvpsbridge.units import MIB

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The largest that glibc takes on machines with 64 bits.
_MMAP_THRESHOLD_BYTES = 32 * MIB
_TRIM_THRESHOLD_BYTES = 64 * MIB


def keep_buffers() -> None:
    """Have the C library keep freed buffers of chunks for the next ones.

    Without it, glibc returns buffers of more than 128 KiB to the kernel, which fills each new one with zeros:
    a fifth of the CPU time of a verify. Other C libraries do nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)

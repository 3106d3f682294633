"""Address of the control socket."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

SOCKET_NAME = "control"


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A path of a socket that fits into the 108 bytes of a socket address, however deep the folder is."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)

"""What takes long to make and is only read afterwards: made once in a run, by the process that asks first."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` fills; the other processes of pytest-xdist wait for it and share it.

    Args:
        factory: of temporary folders.
        name: of the folder; the same name means the same content.
        make: fills an empty folder, which does not move afterwards.
    """
    base = factory.getbasetemp()
    if base.name.startswith("popen-"):  # a worker's own folder, within the run's
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder

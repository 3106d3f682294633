"""Runs hvps commands as separate processes and measures seconds and peak memory.

Peak memory is VmHWM of /proc/PID/status of the process and of every process below it, read until the end;
it only grows, so the last reading before the end is the peak but for the last few milliseconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HVPS = (sys.executable, "-m", "hvpsbridge")
_READING_SECONDS = 0.02
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Done:
    """Output and cost of a command."""

    document: Any
    seconds: float
    peak_bytes: int


class PeakMemory(threading.Thread):
    """Watches a process and its children; ``bytes`` is the sum of their peaks."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peaks, self._ended = pid, dict[int, int](), threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            for pid in _family(self._pid):
                # The last one: between fork and exec, a process has the memory of its parent.
                self._peaks[pid] = _peak(pid) or self._peaks.get(pid, 0)
            self._ended.wait(_READING_SECONDS)

    @property
    def bytes(self) -> int:
        return sum(self._peaks.values())

    def stop(self) -> int:
        """End the watch; the sum of the peaks."""
        self._ended.set()
        self.join()
        return self.bytes


def hvps(*arguments: str | Path, accept: tuple[int, ...] = (0,)) -> Done:
    """Run a command to its end; its standard output is JSON.

    Raises:
        RuntimeError: the exit code is not among ``accept``.
    """
    # Files instead of pipes, since nothing reads them while the process is watched.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen([*HVPS, *map(str, arguments)], stdout=out, stderr=err)
        watch = PeakMemory(process.pid)
        status = process.wait()
        seconds = time.monotonic() - started
        peak = watch.stop()
        out.seek(0)
        err.seek(0)
        if status not in accept:
            raise RuntimeError(f"hvps {arguments} ended with {status}: {err.read().decode()[-2000:]}")
        text = out.read()
    return Done(json.loads(text) if text.strip() else None, seconds, peak)


@contextmanager
def background(*arguments: str | Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """A command that runs during the block, and the JSON document that it prints when it is ready."""
    said = log.with_suffix(".json")
    with said.open("wb") as output, log.open("wb") as notes:
        process = subprocess.Popen([*HVPS, *map(str, arguments)], stdout=output, stderr=notes)
    try:
        yield process, _document(process, said)
    finally:
        process.terminate()
        process.wait(60)


def _document(process: subprocess.Popen[bytes], said: Path) -> Any:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return json.loads(said.read_bytes())
        except ValueError:  # not whole yet
            time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} did not become ready")


def cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of all processes below it that run."""
    own, *below = [_cpu(each) for each in _family(pid)]
    return own, sum(below)


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def _peak(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # it has ended
        pass
    return 0

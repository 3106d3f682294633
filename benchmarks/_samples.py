"""Measurements, and tables of them."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field


@dataclass
class Sample:
    """One measurement: payload bytes, and wall and CPU seconds of this process."""

    payload_bytes: int
    seconds: float
    cpu_seconds: float
    wire_bytes: int = 0

    @property
    def rate(self) -> float:
        """Payload MB/s."""
        return self.payload_bytes / 1e6 / self.seconds

    @property
    def cpu_per_gb(self) -> float:
        """CPU seconds of this process per GB of payload."""
        return self.cpu_seconds / (self.payload_bytes / 1e9)


@dataclass
class Table:
    """Rows of one table as text, and as values for ``--json``."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def show(self) -> None:
        print(f"\n### {self.title}\n\n| " + " | ".join(self.columns) + " |")
        print("|" + "---|" * len(self.columns))
        for row in self.rows:
            print("| " + " | ".join(row) + " |")
        sys.stdout.flush()


def spread(values: list[float], digits: int = 1) -> str:
    """Median, smallest and largest value."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Clock:
    """Wall and CPU time of a block of code."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu

"""The path of a block from the bytes of an HTTP reply to the pack, and back: modules, calls, CPU.

A canned host sends a disk of random bytes. The code that reads it is that of ``hvps backup``, from the reader
pipeline to a pack in a local repository. In the middle of the disk every call is traced with
``sys.setprofile``. For the trace each block has a reply of its own and is a chunk of its own, so every call
that a block takes occurs once per block. Calls that occur for fewer than half of the blocks belong to
requests and packs; they are listed with ``--calls`` and not counted.

A call between modules is one whose caller, the nearest frame of hvpsbridge, is in another module. Creating a
dataclass counts as a call, but a module in which nothing else runs does not count as a module. Resuming a
generator counts as a call.

CPU is that of this process without the trace, with default chunks and replies of 500 KB: for the whole path,
and for the wire alone as in ``wire.py`` (digests checked). The rounds of both alternate.

    python benchmarks/walk.py [--rounds N] [--calls]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._clients import canned, connection, hvps_run
from benchmarks._samples import spread
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.assembly import WholeChunks
from hvpsbridge.receiver.pump import Pump
from hvpsbridge.receiver.settings import BLOCK_BYTES
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import DEFAULT_CHUNK_BYTES, Repository
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.registry import open_store
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import Meter
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.tasks.restore.sinks import RawFile
from hvpsbridge.tasks.transfer.guard import Guard, ReadWatcher
from hvpsbridge.tasks.transfer.limits import SharedPermits
from hvpsbridge.tasks.transfer.permits import Claim
from hvpsbridge.tasks.transfer.repository_side import RepositorySide
from hvpsbridge.units import MIB
from tests.repository.conftest import CHEAP, disk_of, manifest_of

PACKAGE = "hvpsbridge."
MEBIBYTES = 32
SIZE_BYTES = MEBIBYTES * MIB
WIRE_BYTES = 256 * MIB

Frame = FrameType


class Trace:
    """Counts calls between modules, from one call of ``marker`` to a later one.

    Args:
        marker: module and function that is called once for each block.
        first: number of the call of ``marker`` that starts counting.
        last: number of the call that ends it.
    """

    def __init__(self, marker: tuple[str, str], first: int, last: int) -> None:
        self._marker = marker
        self._first, self._last = first, last
        self._marks = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        self.modules: Counter[str] = Counter()

    def per_block(self, count: int) -> float:
        """A count per block."""
        return count / (self._last - self._first)

    def usual(self, counts: Counter[Any]) -> dict[Any, float]:
        """What occurs for at least half of the blocks, and how often per block."""
        found = {key: self.per_block(count) for key, count in counts.items()}
        return {key: count for key, count in found.items() if count >= 0.5}

    def __call__(self, frame: Frame, event: str, _argument: Any) -> None:
        """The profile function."""
        if event != "call":
            return
        callee = frame.f_globals.get("__name__", "")
        if not callee.startswith(PACKAGE):
            return
        name = frame.f_code.co_name
        if (callee, name) == self._marker:
            self._marks += 1
        if not self._first <= self._marks < self._last:
            return
        if frame.f_code.co_filename != "<string>":
            self.modules[callee] += 1
        caller = frame.f_back
        while caller is not None and not caller.f_globals.get("__name__", "").startswith(PACKAGE):
            caller = caller.f_back
        if caller is None or caller.f_globals["__name__"] != callee:
            source = "(thread)" if caller is None else caller.f_globals["__name__"]
            self.calls[source, f"{callee}:{frame.f_code.co_qualname}"] += 1


@contextmanager
def traced(trace: Trace | None) -> Iterator[None]:
    """Trace this thread and those that start during the block."""
    if trace is None:
        yield
        return
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # None ends it


@contextmanager
def new_repository(chunk_bytes: int = DEFAULT_CHUNK_BYTES) -> Iterator[Repository]:
    """An empty local repository that is not encrypted."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "repository"), create=True)
        with create_on_store(store, ChunkGrid(chunk_bytes), key=None, cost=CHEAP) as repository:
            yield repository


def backup(host: dict[str, Any], repository: Repository, trace: Trace | None = None) -> tuple[Any, float]:
    """Store the whole disk; the point, and the CPU seconds."""
    permits = SharedPermits()
    claim = Claim("bench", "C:", uuid4(), "bench")
    guard = Guard(uuid4(), "vm", BackupLimits(), Cancellation())
    guard.checkpoint_made()
    with (
        HyperVHost.connect(connection(host)) as session,
        traced(trace),
        repository.begin(uuid4()) as writer,
    ):
        stored = RepositorySide(repository, writer, SIZE_BYTES, None)
        pump = Pump(
            lambda: session.open_reader("bench"),
            SIZE_BYTES,
            repository.grid,
            host="bench",
            budget=ByteBudget(),
            watcher=ReadWatcher(guard, Meter(lambda progress: None, "scsi 0:0", "read", SIZE_BYTES)),
            new_permit=lambda: permits.permit(claim),
        )
        sink = WholeChunks(stored.comparable, repository.grid, SIZE_BYTES, zeros_known=True)
        before = time.process_time()
        pump.run((Extent(0, SIZE_BYTES),), sink)
        tree = stored.finish()
        seconds = time.process_time() - before
        return writer.commit(manifest_of([disk_of(tree)])), seconds


def restore(repository: Repository, point: Any, trace: Trace | None = None) -> float:
    """Write the disk into a file as ``hvps restore`` does; CPU seconds."""
    cancel, meter = Cancellation(), Meter(lambda progress: None, "scsi 0:0", "restore", SIZE_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        image = repository.image(point, point.disks[0])
        before = time.process_time()
        with traced(trace), RawFile(Path(folder) / "disk", SIZE_BYTES, SIZE_BYTES) as target:
            for offset, data in image.chunks():
                cancel.check()
                target.write(offset, data)
                meter.moved(len(data), 0)
            target.finish()
        return time.process_time() - before


def show(title: str, trace: Trace, unit: str, every_call: bool) -> None:
    """Print the figures of a path."""
    print(f"\n### {title}\n")
    modules, calls = trace.usual(trace.modules), trace.usual(trace.calls)
    print(
        f"{len(modules)} modules and {len(calls)} calls between modules a {unit}; "
        f"{sum(calls.values()):.0f} with those that occur more than once"
    )
    if every_call:
        print("\n| from | to | calls |\n|---|---|---|")
        for (source, target), count in sorted(trace.calls.items(), key=lambda item: -item[1]):
            names = source.removeprefix(PACKAGE), target.removeprefix(PACKAGE)
            print(f"| {names[0]} | {names[1]} | {trace.per_block(count):.2f} |")


def main() -> None:
    """Trace, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", action="store_true", help="list every call between modules")
    parser.add_argument("--no-trace", action="store_true", help="measure CPU only")
    options = parser.parse_args()
    path: list[float] = []
    wire: list[float] = []
    back: list[float] = []
    with canned(f"disk{MEBIBYTES}") as host, canned("full") as endless:
        if not options.no_trace:
            count = SIZE_BYTES // BLOCK_BYTES
            there = Trace(("hvpsbridge.formats.wire", "decode_block"), count // 4, count * 3 // 4)
            home = Trace(("hvpsbridge.tasks.restore.sinks", "write"), count // 4, count * 3 // 4)
            with canned(f"blocks{MEBIBYTES}") as single, new_repository(BLOCK_BYTES) as repository:
                point, _ = backup(single, repository, there)
                restore(repository, point, home)
            show("From a reply to a pack", there, "block", options.calls)
            show("From a pack to a restored file", home, "chunk", options.calls)
        for _ in range(options.rounds):
            with new_repository() as repository:
                point, seconds = backup(host, repository)
                path.append(seconds / (SIZE_BYTES / 1e9))
                back.append(restore(repository, point) / (SIZE_BYTES / 1e9))
            wire.append(hvps_run(endless, WIRE_BYTES, check=True).cpu_per_gb)
    print(
        "\n### CPU seconds per GB of payload\n"
        "\n| wire, checked | reply to pack | pack to file |\n|---|---|---|"
    )
    print(f"| {spread(wire, 2)} | {spread(path, 2)} | {spread(back, 2)} |")


if __name__ == "__main__":
    main()

"""Compares numbers of pipelines, shells and hvps processes, with the real PowerShell engine.

The pump of ``hvps backup`` reads, with the process's byte budget; every block is verified, counted and
dropped. The host's processes are warm, as in ``wire.py``. Each hvps process is a separate program, with its
own CPU time and peak memory. Configurations alternate, so that other load affects all of them alike. A run
fails if a reply was left to pypsrp.

    python benchmarks/parallel.py [--runs 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._clients import connection, process
from benchmarks._engine_rows import MEASURED_PASSES, WARM_PASSES
from benchmarks._samples import spread
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.receiver.pump import Pump
from hvpsbridge.receiver.settings import ReadSettings
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.units import KIB, MIB

GRID = ChunkGrid(64 * KIB)


@dataclass(frozen=True)
class Way:
    """One configuration: hvps processes, shells (disks) of each, pipelines of each shell."""

    processes: int
    shells: int
    pipelines: int


# The engine has two disks; each belongs to one process of the host.
WAYS = (Way(1, 1, 1), Way(1, 1, 2), Way(1, 1, 4), Way(1, 2, 1), Way(2, 1, 1))


class _Drop:
    """Sink and watcher of a pump that only counts."""

    def __init__(self) -> None:
        self.raw_bytes = self.wire_bytes = 0
        self._lock = threading.Lock()

    def deliver(self, block: Block) -> None:
        """Drop a verified block."""

    def check(self) -> None:
        """Never stop."""

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """Add up."""
        with self._lock:
            self.raw_bytes += raw_bytes
            self.wire_bytes += wire_bytes


def read(order: dict[str, Any]) -> None:
    """An hvps process: open, report that, wait for a line, read, and print the cost."""
    drop = _Drop()
    with ExitStack() as stack:
        budget, pumps = ByteBudget(), []
        for path in order["paths"]:
            session = stack.enter_context(HyperVHost.connect(connection(order)))
            session.check_reader()  # compiling is not reading
            pumps.append(
                Pump(
                    partial(session.open_reader, path),
                    order["size"],
                    GRID,
                    host=session.name,
                    budget=budget,
                    watcher=drop,
                    settings=ReadSettings(pipelines=order["pipelines"], deflate=False),
                )
            )
        for _ in range(WARM_PASSES):
            run_all(pumps, order["size"], drop)
        drop.raw_bytes = drop.wire_bytes = 0
        print("ready", flush=True)
        sys.stdin.readline()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(MEASURED_PASSES):
            run_all(pumps, order["size"], drop)
        took = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "bytes": drop.raw_bytes,
            "wire_bytes": drop.wire_bytes,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if drop.raw_bytes != MEASURED_PASSES * order["size"] * len(pumps):
            raise SystemExit(f"{drop.raw_bytes} bytes came")
        if BulkPipeline.fallbacks:
            raise SystemExit("a reply went the slow way")
    print(json.dumps(took), flush=True)


def run_all(pumps: list[Pump], size_bytes: int, drop: _Drop) -> None:
    """Read each disk once, in parallel."""
    threads = [threading.Thread(target=pump.run, args=((Extent(0, size_bytes),), drop)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(host: dict[str, Any], way: Way) -> dict[str, float]:
    """Run a configuration once: MB/s, CPU seconds per GB, and MiB of all hvps processes."""
    readers = []
    for number in range(way.processes):
        paths = host["paths"][number * way.shells : (number + 1) * way.shells]
        order = {**host, "paths": paths, "pipelines": way.pipelines}
        readers.append(
            subprocess.Popen(
                [sys.executable, __file__, "--reader", json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for reader in readers:
        assert reader.stdout is not None
        if reader.stdout.readline() != "ready\n":
            raise SystemExit("a reader did not start")
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    took = [json.loads(reader.communicate()[0]) for reader in readers]
    if any(reader.returncode for reader in readers):
        raise SystemExit("a reader failed")
    moved = sum(one["bytes"] for one in took)
    cpu = sum(one["cpu_seconds"] for one in took)
    seconds = max(one["seconds"] for one in took)
    return {
        "rate": moved / 1e6 / seconds,
        "cpu_per_gb": cpu / (moved / 1e9),
        "cores": cpu / seconds,
        "peak_mib": sum(one["peak_bytes"] for one in took) / MIB,
    }


def show(found: dict[Way, list[dict[str, float]]]) -> None:
    """The table."""
    print(
        "| hvps processes | shells each | pipelines a shell | MB/s | hvps CPU s/GB | share of a core | MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    for way, samples in found.items():
        column = {key: [sample[key] for sample in samples] for key in samples[0]}
        print(
            f"| {way.processes} | {way.shells} | {way.pipelines} | {spread(column['rate'])} "
            f"| {spread(column['cpu_per_gb'], 2)} | {100 * statistics.median(column['cores']):.0f} % "
            f"| {max(column['peak_mib']):.0f} |"
        )


def main() -> None:
    """Run all configurations alternately and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        read(json.loads(options.reader))
        return
    found: dict[Way, list[dict[str, float]]] = {way: [] for way in WAYS}
    with process(str(Path(__file__).with_name("_engine.py")), "random") as host:
        for _ in range(options.runs):
            for way in WAYS:
                found[way].append(run(host, way))
                print(way, found[way][-1], file=sys.stderr, flush=True)
    show(found)
    if options.json:
        rows = [{**vars(way), "samples": samples} for way, samples in found.items()]
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

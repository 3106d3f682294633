"""Rows of the wire benchmark on the real PowerShell engine."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._clients import HERE, connection, process
from benchmarks._samples import Clock, Sample, Table, spread
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.settings import CREDIT, ReadSettings
from hvpsbridge.units import MIB

CHUNK = 64 * 1024
# .NET compiles again what runs often; on two cores that takes about 200 MB in each process.
WARM_PASSES, MEASURED_PASSES = 5, 4


@dataclass
class HostCosts:
    """CPU of the host's PowerShell processes and of its WSMan front, and the largest process."""

    cpu_seconds: float
    front_cpu_seconds: float
    before_bytes: int
    peak_bytes: int


def rows_engine(runs: int) -> Table:
    """The scripts in the real engine behind the simulated host: first pass and warm."""
    table = Table(
        "Real engine as host, incompressible disk, digests checked",
        [
            "pipelines",
            "shells",
            "first pass MB/s",
            "its host CPU s/GB",
            "warm MB/s",
            "PowerShell CPU s/GB",
            "front CPU s/GB",
            "hvps CPU s/GB",
            "hvps share of a core",
            "host process MiB before, at its peak",
        ],
    )
    with process(str(HERE / "_engine.py"), "random") as host:
        ways = ((1, 1), (1, 2), (1, 4), (2, 2), (2, 4))
        found: dict[tuple[int, int], list[list[tuple[Sample, HostCosts]]]] = {way: [] for way in ways}
        for _ in range(runs):
            for way in ways:
                found[way].append(engine_passes(host, *way, passes=(1, WARM_PASSES, MEASURED_PASSES)))
        for (shells, pipelines), taken in found.items():
            first, warm = [one[0] for one in taken], [one[2] for one in taken]
            table.rows.append(
                [
                    str(pipelines),
                    str(shells),
                    spread([s.rate for s, _ in first]),
                    spread([t.cpu_seconds / (s.payload_bytes / 1e9) for s, t in first]),
                    spread([s.rate for s, _ in warm]),
                    spread([t.cpu_seconds / (s.payload_bytes / 1e9) for s, t in warm]),
                    spread([t.front_cpu_seconds / (s.payload_bytes / 1e9) for s, t in warm]),
                    spread([s.cpu_per_gb for s, _ in warm]),
                    spread([100 * s.cpu_seconds / s.seconds for s, _ in warm], 0) + " %",
                    f"{max(t.before_bytes for _, t in first) / MIB:.0f}, "
                    f"{max(t.peak_bytes for _, t in warm) / MIB:.0f}",
                ]
            )
    return table


def rows_deflate(runs: int) -> Table:
    """Compression on the host."""
    table = Table(
        "Real engine, half-compressible disk, 1 shell", ["pipelines", "deflate", "disk MB/s", "wire / disk"]
    )
    with process(str(HERE / "_engine.py"), "half") as host:
        for pipelines in (1, 2):
            for deflate in (False, True):
                samples = [engine_run(host, 1, pipelines, deflate=deflate)[0] for _ in range(runs)]
                table.rows.append(
                    [
                        str(pipelines),
                        "on" if deflate else "off",
                        spread([s.rate for s in samples]),
                        spread([s.wire_bytes / s.payload_bytes for s in samples], 2),
                    ]
                )
    return table


def engine_run(
    host: dict[str, Any], shells: int, pipelines: int, *, deflate: bool
) -> tuple[Sample, HostCosts]:
    """Read a whole disk once with warm processes."""
    return engine_passes(host, shells, pipelines, passes=(WARM_PASSES, 1), deflate=deflate)[1]


def engine_passes(
    host: dict[str, Any], shells: int, pipelines: int, *, passes: tuple[int, ...], deflate: bool = False
) -> list[tuple[Sample, HostCosts]]:
    """Read whole disks several times with the default settings, with the same processes on the host.

    Windows are distributed to the pipelines. Compiling the C# is not counted; what .NET compiles meanwhile
    is.
    """
    settings = ReadSettings()
    sessions = [HyperVHost.connect(connection(host)) for _ in range(shells)]
    # An attached disk belongs to one process, so each shell reads its own disk.
    sources = [sessions[n % shells].open_reader(host["paths"][n % shells]) for n in range(pipelines)]
    windows = list(range(0, host["size"], settings.window_bytes))
    got = [0] * pipelines

    def pull(index: int, count: int) -> None:
        source, mine = sources[index], windows[index::pipelines] * count
        asked, answered = 0, 0
        while answered < len(mine):
            while asked < min(len(mine), answered + CREDIT):
                extent = (Extent(mine[asked], min(settings.window_bytes, host["size"] - mine[asked])),)
                request = Request(
                    number=asked,
                    extents=extent,
                    chunk_bytes=CHUNK,
                    block_bytes=settings.block_bytes,
                    allow_deflate=deflate,
                )
                source.send(request.pack())
                asked += 1
            for data in source.receive(5):
                block = decode_block(data)
                got[index] += sum(piece.extent.length for piece in block.pieces)
                answered += block.last

    for source in sources:
        source.send(Request(number=0, extents=(Extent(0, 4096),), chunk_bytes=CHUNK, block_bytes=MIB).pack())
        while not source.receive(5):
            pass
    processes = [session.host_info().process_id for session in sessions]
    before = max(map(_resident_bytes, processes))
    taken = []
    for count in passes:
        got[:] = [0] * pipelines
        wire_before = sum(source.wire_bytes for source in sources)
        cpu_before, front_before = sum(map(_cpu_seconds, processes)), _cpu_seconds(host["pid"])
        threads = [threading.Thread(target=pull, args=(n, count)) for n in range(pipelines)]
        with Clock() as clock:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        wire = sum(source.wire_bytes for source in sources) - wire_before
        costs = HostCosts(
            sum(map(_cpu_seconds, processes)) - cpu_before,
            _cpu_seconds(host["pid"]) - front_before,
            before,
            max(map(_peak_bytes, processes)),
        )
        taken.append((Sample(sum(got), clock.seconds, clock.cpu_seconds, wire), costs))
    for source in sources:
        source.close()
    for session in sessions:
        session.close()
    return taken


def _cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_bytes(process_id: int) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def rows_stopped(runs: int) -> Table:
    """A client that stops reading."""
    table = Table(
        "A client that stops reading for 5 s with two windows of 16 MiB requested (real engine)",
        ["host process MiB before", "after", "blocks then"],
    )
    with process(str(HERE / "_engine.py"), "random") as host, HyperVHost.connect(connection(host)) as session:
        pid = session.host_info().process_id
        source = session.open_reader(host["paths"][0])
        source.send(
            Request(number=0, extents=(Extent(0, 16 * MIB),), chunk_bytes=CHUNK, block_bytes=MIB).pack()
        )
        source.send(
            Request(
                number=1, extents=(Extent(16 * MIB, 16 * MIB),), chunk_bytes=CHUNK, block_bytes=MIB
            ).pack()
        )
        first = source.receive(10)
        before = _resident_bytes(pid)
        time.sleep(5)
        after = _resident_bytes(pid)
        blocks = len(first)
        while blocks < 32:
            blocks += len(source.receive(10))
        source.close()
        table.rows.append([f"{before / MIB:.0f}", f"{after / MIB:.0f}", f"{blocks} of 32"])
    return table


def _resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""What a restore to a host costs: a disk written by the scripts in the real engine.

One disk of random data is sent to a file of the simulated host, as ``hvps restore --to hyperv:`` does,
several times: .NET compiles again what runs often. Comparing and naming the file are not counted. CPU seconds
of hvps are those of this process. The host is a process for its WSMan service, and PowerShell below it.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from benchmarks._clients import HERE, connection, process
from benchmarks._processes import cpu_seconds
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import create_repository
from hvpsbridge.secret import Secret
from hvpsbridge.tasks.restore.host_file import PIECE_BYTES
from hvpsbridge.tasks.restore.host_send import HostSend
from hvpsbridge.tasks.restore.images import view_of
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import MIB
from tests.repository.conftest import store_point

DISK_BYTES = 128 * MIB


def upload(rounds: int, folder: Path | None) -> None:
    """Print rate and CPU time of uploads, beside what is to be reached."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        create_repository(
            f"{name}/repo", key=Secret("benchmark"), cache_folder=Path(name) / "cache"
        ) as repository,
        process(str(HERE / "_engine.py"), "random") as served,
    ):
        point = store_point(repository, random.Random(9).randbytes(DISK_BYTES))
        rates, costs = list[float](), list[float]()
        fronts, engines = list[float](), list[float]()
        with HyperVHost.connect(connection(served, "basic"), run_id=uuid4()) as host:
            for turn in range(rounds + 1):
                source = DiskSource(repository, point, point.disks[0])
                view = view_of(source, "vhdx")
                path = f"C:\\upload-{turn}.vhdx"
                host.restoring.new_file(path, view.size_bytes)
                started, cpu, others = time.monotonic(), time.process_time(), cpu_seconds(served["pid"])
                HostSend(
                    host=host,
                    path=path,
                    open_writer=host.restoring.open_writer,
                    piece_bytes=PIECE_BYTES,
                    cancel=source.cancel,
                    meter=source.meter(),
                ).send(ViewFile(view, source), view.extents(source.extents()))
                host.restoring.close_file(path)
                rates.append(DISK_BYTES / 1e6 / (time.monotonic() - started))
                costs.append((time.process_time() - cpu) / (DISK_BYTES / 1e9))
                front, engine = cpu_seconds(served["pid"])
                fronts.append((front - others[0]) / (DISK_BYTES / 1e9))
                engines.append((engine - others[1]) / (DISK_BYTES / 1e9))
                host.restoring.remove_files([path])
    # The first one compiles.
    print(f"upload, {DISK_BYTES // MIB} MiB of random data, real engine, {rounds} rounds after a first one")
    rate, cost = statistics.median(rates[1:]), statistics.median(costs[1:])
    print(f"{'MB/s':20} {rate:7.1f}, to reach {20:5}: {'yes' if rate >= 20 else 'NO'} (first {rates[0]:.1f})")
    print(f"{'CPU s/GB of hvps':20} {cost:7.1f}, at most  {15:5}: {'yes' if cost <= 15 else 'NO'}")
    front, engine = statistics.median(fronts[1:]), statistics.median(engines[1:])
    cores = len(os.sched_getaffinity(0))
    print(f"{'CPU s/GB of the host':20} {front + engine:7.1f}, of which {front:.1f} for the WSMan service")
    most = 1000 * cores / (cost + front + engine)
    print(f"{'MB/s by CPU time':20} {most:7.1f}, if {cores} cores did nothing else")

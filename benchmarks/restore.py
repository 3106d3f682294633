"""Ways back from a repository, beside restic and borg: seconds and CPU seconds of whole commands in one run.

One image of ``--mib`` with ``--data`` of it data, half of which compresses to about a half, is stored by all
three, each encrypted and with its default key derivation, in a local repository. Then each row is run
``--rounds`` times, the tools in turn; restores end with a sync of what they wrote. In warm rows the page
cache has what was just stored, in cold ones the files of the repository are dropped from it before. Without
libnbd-bin and qemu-utils their rows are left out.

What the disk takes and what each stage of a restore costs are measured in the same run: the bound of a
restore is the lower of the disk's rate and the sum of the stages over the cores.

    python benchmarks/restore.py [--mib 2048] [--rounds 3] [--folder /var/tmp] [--boot] [--upload]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._boot import boot_lines
from benchmarks._peers import HVPS, PASSWORD, Peers, Row, environment, evict, in_turn, print_rows, run
from benchmarks._processes import PeakMemory
from benchmarks._upload import upload
from hvpsbridge.formats.chunk import unpack_frame
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.repository import compression, open_repository
from hvpsbridge.repository.frames import coalesce
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB, MIB

RANDOM_READS = 1000


def image(path: Path, size_bytes: int, share: float) -> list[int]:
    """A disk: runs of data and holes of a MiB each, with data that compresses a little; where data is."""
    places = []
    chance = random.Random(1)
    words = [chance.randbytes(40) + bytes(24) for _ in range(4096)]
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for at in range(0, size_bytes, MIB):
            if chance.random() >= share:
                continue
            half = chance.randbytes(MIB // 2)
            places.append(at)
            file.seek(at)
            file.write(half + b"".join(chance.choices(words, k=MIB // 2 // 64)))
    return places


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(peers: Peers) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``hvps serve`` while the block runs: the URI of the disk, and the process."""
    process = subprocess.Popen(
        [*map(str, (*HVPS, "serve", peers.point, *peers.hvps))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    uri = process.stdout.readline().split()[0]
    try:
        yield uri, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def over_nbd(peers: Peers, places: list[int], rounds: int) -> Iterator[Row]:
    """Rows of ``hvps serve``: a whole copy to nowhere, and small reads of data, one after another.

    Seconds are those of the client, CPU seconds and memory those of the server while it runs.
    """
    reading = ["qemu-io", "-f", "raw", "-r", "{reads}", "{uri}"]
    for name, command, count, cold in (
        ("nbdcopy from hvps serve", ["nbdcopy", "{uri}", "null:"], 0, False),
        ("random reads of 4 KiB", reading, RANDOM_READS, False),
        ("random reads of 4 KiB, cold", reading, RANDOM_READS, True),
    ):
        if shutil.which(command[0]) is None:
            continue
        row = Row(name, reads=count)
        for turn in range(rounds):
            chance = random.Random(turn)
            reads: list[str] = []
            for _ in range(count):
                at = chance.choice(places) + chance.randrange(MIB // 4096) * 4096
                reads += ["-c", f"read {at // KIB}k 4k"]
            with serving(peers) as (uri, process):
                if cold:
                    evict(peers.folder / "hvps")
                full: list[str | Path] = []
                for part in command:
                    full += reads if part == "{reads}" else [part.replace("{uri}", uri)]
                before, watch = _cpu_of(process.pid), PeakMemory(process.pid)
                run(row, full)
                row.cpu[-1] = _cpu_of(process.pid) - before
                row.peak_bytes = max(row.peak_bytes, watch.stop())
        yield row


def disk_seconds(folder: Path, data_bytes: int) -> float:
    """Seconds to write as much random data into a file and sync it."""
    piece, path = os.urandom(MIB), folder / "written"
    started = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(data_bytes // MIB):
            file.write(piece)
        os.fsync(file.fileno())
    seconds = time.monotonic() - started
    path.unlink()
    return seconds


def stage_seconds(peers: Peers, data_bytes: int) -> dict[str, float]:
    """CPU seconds of the stages of a restore of all data, by one thread; measured with a quarter of it."""
    spent = dict.fromkeys(("read", "decrypt", "decompress", "hash", "write"), 0.0)

    @contextmanager
    def counted(stage: str) -> Iterator[None]:
        started = time.process_time()
        yield
        spent[stage] += time.process_time() - started

    place, raw_bytes = peers.folder / "stages", 0
    with (
        open_repository(str(peers.folder / "hvps"), key=Secret(PASSWORD)) as repository,
        place.open("wb", buffering=0) as target,
    ):
        # Private parts: nothing public runs one stage alone.
        frames, sealer = repository._frames, repository._frames._objects.sealer
        (point,) = repository.catalog.points()
        ids = [identity for _, identity in repository.image(point, point.disks[0]).chunk_ids()]
        found = [frames.locate(identity, Kind.DATA_PACK)[0] for identity in ids]
        for group in list(coalesce(sorted(found, key=lambda each: (each.pack, each.offset))))[::4]:
            length = group[-1].offset + group[-1].frame_bytes - group[0].offset
            with counted("read"):
                stored = memoryview(frames._range(group[0].kind, group[0].pack, group[0].offset, length))
            for each in group:
                at = each.offset - group[0].offset
                frame, body = unpack_frame(stored[at : at + each.frame_bytes], MAX_CHUNK_BYTES)
                with counted("decrypt"):
                    opened = sealer.open_frame(frame, body)
                with counted("decompress"):
                    raw = compression.expand(frame.codec, opened, frame.raw_bytes)
                with counted("hash"):
                    sealer.identify(hashlib.sha256(raw).digest())
                with counted("write"):
                    target.write(raw)
                raw_bytes += len(raw)
    place.unlink()
    return {stage: seconds * data_bytes / raw_bytes for stage, seconds in spent.items()}


def judged(rows: dict[str, Row], size_bytes: int, bound: float) -> Iterator[tuple[str, float, float]]:
    """What is to be reached, what is, and what must be; all are at least."""

    def rate(name: str) -> float:
        return size_bytes / rows[name].median / 1e6

    restores = [name for name in ("restic restore", "borg extract --sparse") if name in rows]
    checks = [name for name in ("restic check --read-data", "borg check --verify-data") if name in rows]
    if restores:
        yield "restore MB/s, as the best peer", rate("hvps restore"), max(map(rate, restores))
    yield "restore MB/s, 80 % of the bound", rate("hvps restore"), 0.8 * bound
    verify = "hvps verify --level hashed"
    if checks:
        yield "verify MB/s, twice the faster peer", rate(verify), 2 * max(map(rate, checks))
    if "nbdcopy from hvps serve" in rows:
        yield "nbdcopy MB/s, 70 % of verify", rate("nbdcopy from hvps serve"), 0.7 * rate(verify)
    for name, wanted in (("random reads of 4 KiB", 1000), ("random reads of 4 KiB, cold", 200)):
        if name in rows:
            yield f"{name}, a second", rows[name].reads / rows[name].median, wanted


def main() -> None:
    """Store an image, run all rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=2048, help="size of the image")
    parser.add_argument("--data", type=float, default=0.8, help="share of it that is data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where repositories and targets are")
    parser.add_argument("--upload", action="store_true", help="only the upload to a host of the real engine")
    parser.add_argument("--boot", action="store_true", help="boot a small Linux, too")
    options = parser.parse_args()
    if options.upload:
        upload(options.rounds, options.folder)
        return
    size_bytes = options.mib * MIB
    with tempfile.TemporaryDirectory(prefix=f"hvps-{uuid4().hex[:6]}-", dir=options.folder) as name:
        folder = Path(name)
        raw = folder / "disk.raw"
        places = image(raw, size_bytes, options.data)
        data_bytes = len(places) * MIB
        peers = Peers(folder)
        peers.create()
        in_turn(list(peers.stores(raw)), 1)
        disk = [disk_seconds(folder, data_bytes) for _ in range(options.rounds)]
        stages = stage_seconds(peers, data_bytes)
        rows: list[Row] = []
        for group in (peers.restores(), peers.restores(cold=True), peers.verifies()):
            rows += in_turn(list(group), options.rounds)
        rows += over_nbd(peers, places, options.rounds)
        boots = list(boot_lines(folder, options.rounds)) if options.boot else []
    cores = len(os.sched_getaffinity(0))
    bound = size_bytes / 1e6 / max(statistics.median(disk), sum(stages.values()) / cores)
    print(
        f"image of {options.mib} MiB, {options.data:.0%} data, {options.rounds} rounds, encrypted, warm page "
        f"cache unless it says cold; {cores} cores, load {os.getloadavg()[0]:.1f}"
    )
    print_rows(rows, size_bytes)
    print(
        f"the disk: {statistics.median(disk):.2f} s for all data; CPU s of the stages, one thread: ", end=""
    )
    print(", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items()))
    for wanted, reached, least in judged({row.name: row for row in rows}, size_bytes, bound):
        print(f"{wanted:38} {reached:7.0f}, to reach {least:7.0f}: {'yes' if reached >= least else 'NO'}")
    most = max((row for row in rows if "hvps" in row.name or row.reads), key=lambda row: row.peak_bytes)
    verdict = "yes" if most.peak_bytes < 256 * MIB else "NO"
    print(f"{'memory of hvps, at most 256 MiB':38} {most.peak_bytes // MIB:7}, {most.name}: {verdict}")
    for line in boots:
        print(line)


if __name__ == "__main__":
    main()

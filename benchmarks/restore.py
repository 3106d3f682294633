"""Ways back from a repository, beside restic and borg: seconds and CPU seconds of whole commands in one run.

One image of ``--mib`` with ``--data`` of it data, half of which compresses to about a half, is stored by all
three, each encrypted and with its default key derivation, in a local repository. Then each row is run
``--rounds`` times, the tools in turn; restores end with a sync of what they wrote. In warm rows the page
cache has what was just stored, in cold ones the files of the repository are dropped from it before. Peers
that are not installed are left out (Debian: restic, borgbackup, libnbd-bin). restic 0.14 writes no holes.

What the disk takes and what each stage of a restore costs are measured in the same run: the bound of a
restore is the lower of the disk's rate and the sum of the stages over the cores.

    python benchmarks/restore.py [--mib 2048] [--rounds 3] [--folder /var/tmp] [--boot] [--upload]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._boot import boot_lines
from benchmarks._processes import PeakMemory
from benchmarks._upload import upload
from hvpsbridge.formats.chunk import unpack_frame
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.repository import compression, create_repository, open_repository
from hvpsbridge.repository.frames import coalesce
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB, MIB
from tests.repository.conftest import store_point

PASSWORD = "benchmark"
HVPS = (sys.executable, "-m", "hvpsbridge")
RANDOM_READS = 1000


@dataclass(slots=True)
class Row:
    """Seconds and CPU seconds of one tool in one row, and the most memory.

    Attributes:
        reads: requests of a run that are counted instead of bytes; 0 without.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    reads: int = 0

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)


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


def run(row: Row, command: list[str | Path], *, sync: Path | None = None) -> None:
    """Run a command and add what it cost to a row."""
    cpu, started = _cpu_of_children(), time.monotonic()
    process = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    memory = PeakMemory(process.pid)
    _, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command}: {err.decode()}")
    if sync is not None:
        file = os.open(sync, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    row.seconds.append(time.monotonic() - started)
    row.cpu.append(_cpu_of_children() - cpu)
    row.peak_bytes = max(row.peak_bytes, memory.stop())


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def evict(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    quietly("sync", "-f", folder)
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def environment() -> dict[str, str]:
    """Passwords of all three, and no prompts."""
    return {
        **os.environ,
        "RESTIC_PASSWORD": PASSWORD,
        "BORG_PASSPHRASE": PASSWORD,
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }


def quietly(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command that is not measured."""
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL, env=environment(), cwd=cwd)


@dataclass(frozen=True, slots=True)
class Stores:
    """The same image in three repositories.

    Attributes:
        point: short id of the point of hvps.
    """

    folder: Path
    point: str
    restic: bool
    borg: bool

    @property
    def hvps(self) -> list[str | Path]:
        """Options of hvps for its repository."""
        return ["--repo", self.folder / "hvps", "--key-file", self.folder / "key"]

    def restores(self, *, cold: bool = False) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that run one restore each."""
        out = self.folder / "out"

        def cleared(command: list[str | Path], target: Path, source: str) -> Callable[[Row], None]:
            def restore(row: Row) -> None:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                quietly("sync", "-f", out)
                if cold:
                    evict(self.folder / source)
                os.chdir(out)
                run(row, command, sync=target)
                os.chdir(self.folder)

            return restore

        name, suffix = out / "disk.raw", ", cold" * cold
        command = [*HVPS, "restore", self.point, "--disk", "0", "--to", f"raw:{name}", "-q", *self.hvps]
        yield f"hvps restore{suffix}", cleared(command, name, "hvps")
        if self.restic:
            command = ["restic", "-q", "-r", self.folder / "restic", "restore", "latest", "--target", out]
            yield f"restic restore{suffix}", cleared(command, out / "disk.raw", "restic")
        if self.borg:
            command = ["borg", "extract", "--sparse", f"{self.folder / 'borg'}::one"]
            yield f"borg extract --sparse{suffix}", cleared(command, out / "disk.raw", "borg")

    def verifies(self) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that check all data once each."""
        yield (
            "hvps verify --level hashed",
            lambda row: run(row, [*HVPS, "verify", "--level", "hashed", *self.hvps]),
        )
        if self.restic:
            command: list[str | Path] = ["restic", "-q", "-r", self.folder / "restic"]
            command += ["check", "--read-data"]
            yield "restic check --read-data", lambda row: run(row, command)
        if self.borg:
            borg: list[str | Path] = ["borg", "check", "--verify-data", self.folder / "borg"]
            yield "borg check --verify-data", lambda row: run(row, borg)


def stored(folder: Path, raw: Path) -> Stores:
    """Store the image with all tools that are there."""
    with create_repository(
        str(folder / "hvps"), key=Secret(PASSWORD), cache_folder=folder / "cache"
    ) as repository:
        point = store_point(repository, raw.read_bytes())
    (folder / "key").write_text(PASSWORD)
    (folder / "key").chmod(0o600)
    restic, borg = (shutil.which(name) is not None for name in ("restic", "borg"))
    if restic:
        quietly("restic", "-q", "-r", folder / "restic", "init")
        quietly("restic", "-q", "-r", folder / "restic", "backup", raw.name, cwd=raw.parent)
    if borg:
        quietly("borg", "init", "-e", "repokey-blake2", folder / "borg")
        quietly("borg", "create", "-C", "zstd,3", f"{folder / 'borg'}::one", raw.name, cwd=raw.parent)
    return Stores(folder, point.short_id, restic, borg)


@contextmanager
def serving(stores: Stores) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``hvps serve`` while the block runs: the URI of the disk, and the process."""
    process = subprocess.Popen(
        [*map(str, (*HVPS, "serve", stores.point, *stores.hvps))],
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


def over_nbd(stores: Stores, places: list[int], rounds: int) -> Iterator[Row]:
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
            with serving(stores) as (uri, process):
                if cold:
                    evict(stores.folder / "hvps")
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


def stage_seconds(stores: Stores, data_bytes: int) -> dict[str, float]:
    """CPU seconds of the stages of a restore of all data, by one thread; measured with a quarter of it."""
    spent = dict.fromkeys(("read", "decrypt", "decompress", "hash", "write"), 0.0)

    @contextmanager
    def counted(stage: str) -> Iterator[None]:
        started = time.process_time()
        yield
        spent[stage] += time.process_time() - started

    place, raw_bytes = stores.folder / "stages", 0
    with (
        open_repository(str(stores.folder / "hvps"), key=Secret(PASSWORD)) as repository,
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


def print_rows(rows: list[Row], size_bytes: int) -> None:
    """The table of all rows."""
    print(f"{'':32} {'median':>8} {'fastest':>8} {'CPU s':>7} {'MB/s':>7} {'reads/s':>8} {'memory':>9}")
    for row in rows:
        rate = (
            f"{'':7} {row.reads / row.median:8.0f}"
            if row.reads
            else f"{size_bytes / row.median / 1e6:7.0f} {'':8}"
        )
        print(
            f"{row.name:32} {row.median:7.2f}s {min(row.seconds):7.2f}s "
            f"{statistics.median(row.cpu):7.2f} {rate} {row.peak_bytes // KIB // KIB:6} MiB"
        )


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
        os.chdir(folder)
        raw = folder / "disk.raw"
        places = image(raw, size_bytes, options.data)
        data_bytes = len(places) * MIB
        stores = stored(folder, raw)
        disk = [disk_seconds(folder, data_bytes) for _ in range(options.rounds)]
        stages = stage_seconds(stores, data_bytes)
        groups = [list(stores.restores()), list(stores.restores(cold=True)), list(stores.verifies())]
        rows: list[Row] = []
        for group in groups:
            made = [Row(tool) for tool, _ in group]
            for _ in range(options.rounds):
                for row, (_, work) in zip(made, group, strict=True):
                    work(row)
            rows += made
        rows += over_nbd(stores, places, options.rounds)
        boots = list(boot_lines(folder, options.rounds)) if options.boot else []
        os.chdir("/")
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

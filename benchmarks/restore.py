"""Ways back from a repository, beside restic and borg: seconds of whole commands in one run.

One image of ``--mib`` with ``--data`` of it data, half of which compresses to about a half, is stored by all
three, each encrypted, in a local repository. Then each row is run ``--rounds`` times, the tools in turn;
restores end with a sync of what they wrote. The page cache is warm: what was just stored is in memory. Peers
that are not installed are left out (Debian: restic, borgbackup, libnbd-bin). restic 0.14 writes no holes.

    python benchmarks/restore.py [--mib 2048] [--rounds 3] [--folder /var/tmp]
"""

from __future__ import annotations

import argparse
import os
import random
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
from hvpsbridge.repository import create_repository
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB, MIB
from tests.repository.conftest import CHEAP, store_point

PASSWORD = "benchmark"
HVPS = (sys.executable, "-m", "hvpsbridge")
RANDOM_READS = 1000


@dataclass(slots=True)
class Row:
    """Seconds of one tool in one row, and the most memory."""

    name: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def image(path: Path, size_bytes: int, share: float) -> None:
    """A disk: runs of data and holes of a MiB each, with data that compresses a little."""
    chance = random.Random(1)
    words = [chance.randbytes(40) + bytes(24) for _ in range(4096)]
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for at in range(0, size_bytes, MIB):
            if chance.random() >= share:
                continue
            half = chance.randbytes(MIB // 2)
            file.seek(at)
            file.write(half + b"".join(chance.choices(words, k=MIB // 2 // 64)))


def run(row: Row, command: list[str | Path], *, sync: Path | None = None) -> None:
    """Run a command and add what it cost to a row."""
    started = time.monotonic()
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
    row.peak_bytes = max(row.peak_bytes, memory.stop())


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

    def restores(self) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that run one restore each."""
        out = self.folder / "out"

        def cleared(command: list[str | Path], target: Path) -> Callable[[Row], None]:
            def restore(row: Row) -> None:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                quietly("sync", "-f", out)
                os.chdir(out)
                run(row, command, sync=target)
                os.chdir(self.folder)

            return restore

        name = out / "disk.raw"
        command = [*HVPS, "restore", self.point, "--disk", "0", "--to", f"raw:{name}", "-q", *self.hvps]
        yield "hvps restore", cleared(command, name)
        if self.restic:
            command = ["restic", "-q", "-r", self.folder / "restic", "restore", "latest", "--target", out]
            yield "restic restore", cleared(command, out / "disk.raw")
        if self.borg:
            command = ["borg", "extract", "--sparse", f"{self.folder / 'borg'}::one"]
            yield "borg extract --sparse", cleared(command, out / "disk.raw")

    def verifies(self) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that check all data once each."""
        yield (
            "hvps verify --level hashed",
            lambda row: run(row, [*HVPS, "verify", "--level", "hashed", *self.hvps]),
        )
        if self.restic:
            command = ["restic", "-q", "-r", self.folder / "restic", "check", "--read-data"]
            yield "restic check --read-data", lambda row: run(row, command)
        if self.borg:
            borg = ["borg", "check", "--verify-data", self.folder / "borg"]
            yield "borg check --verify-data", lambda row: run(row, borg)


def stored(folder: Path, raw: Path) -> Stores:
    """Store the image with all tools that are there."""
    with create_repository(
        str(folder / "hvps"), key=Secret(PASSWORD), cost=CHEAP, cache_folder=folder / "cache"
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
def serving(stores: Stores) -> Iterator[tuple[str, PeakMemory]]:
    """``hvps serve`` while the block runs: the URI of the disk, and its memory."""
    process = subprocess.Popen(
        [*map(str, (*HVPS, "serve", stores.point, *stores.hvps))],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    uri = process.stdout.readline().split()[0]
    memory = PeakMemory(process.pid)
    try:
        yield uri, memory
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def over_nbd(stores: Stores, size_bytes: int, rounds: int) -> Iterator[Row]:
    """Rows of ``hvps serve``: a whole copy to nowhere, and small reads anywhere."""
    for name, command in (
        ("nbdcopy from hvps serve", ["nbdcopy", "{uri}", "null:"]),
        (f"{RANDOM_READS} random reads of 4 KiB", ["qemu-io", "-f", "raw", "-r", "{reads}", "{uri}"]),
    ):
        if shutil.which(command[0]) is None:
            continue
        row = Row(name)
        for turn in range(rounds):
            chance = random.Random(turn)
            reads: list[str] = []
            for _ in range(RANDOM_READS):
                reads += ["-c", f"read {chance.randrange(size_bytes // 4096) * 4}k 4k"]
            with serving(stores) as (uri, memory):
                full: list[str | Path] = []
                for part in command:
                    full += reads if part == "{reads}" else [part.replace("{uri}", uri)]
                run(row, full)
                row.peak_bytes = max(row.peak_bytes, memory.stop())
        yield row


def main() -> None:
    """Store an image, run all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=2048, help="size of the image")
    parser.add_argument("--data", type=float, default=0.8, help="share of it that is data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where repositories and targets are")
    options = parser.parse_args()
    size_bytes = options.mib * MIB
    with tempfile.TemporaryDirectory(prefix=f"hvps-{uuid4().hex[:6]}-", dir=options.folder) as name:
        folder = Path(name)
        os.chdir(folder)
        raw = folder / "disk.raw"
        image(raw, size_bytes, options.data)
        stores = stored(folder, raw)
        groups = [list(stores.restores()), list(stores.verifies())]
        rows: list[Row] = []
        for group in groups:
            made = [Row(tool) for tool, _ in group]
            for _ in range(options.rounds):
                for row, (_, work) in zip(made, group, strict=True):
                    work(row)
            rows += made
        rows += over_nbd(stores, size_bytes, options.rounds)
        boots = list(boot_lines(folder, options.rounds))
        os.chdir("/")
    print(
        f"image of {options.mib} MiB, {options.data:.0%} data, {options.rounds} rounds, encrypted, "
        "warm page cache"
    )
    print(f"{'':32} {'median':>8} {'fastest':>8} {'MB/s':>7} {'memory':>9}")
    for row in rows:
        middle = statistics.median(row.seconds)
        print(
            f"{row.name:32} {middle:7.2f}s {min(row.seconds):7.2f}s {size_bytes / middle / 1e6:7.0f} "
            f"{row.peak_bytes // KIB // KIB:6} MiB"
        )
    for line in boots:
        print(line)


if __name__ == "__main__":
    main()

"""hvps, restic and borg on one image: whole commands, what each costs, and tables of that.

All repositories are local, encrypted, and have the default key derivation. Peers that are not installed are
left out (Debian: restic, borgbackup). restic 0.14 writes no holes when it restores.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._processes import PeakMemory
from hvpsbridge.repository import create_repository
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB

PASSWORD = "benchmark"
HVPS = (sys.executable, "-m", "hvpsbridge")
STORE = (sys.executable, Path(__file__).with_name("_store.py"))


@dataclass(slots=True)
class Row:
    """Seconds and CPU seconds of one tool in one row, and the most memory.

    Attributes:
        reads: requests of a run that are counted instead of bytes; 0 without.
        stored_bytes: added to the repository by the last run; None if a row is not about that.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    reads: int = 0
    stored_bytes: int | None = None

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)


def run(row: Row, command: list[str | Path], *, sync: Path | None = None, cwd: Path | None = None) -> str:
    """Run a command and add what it cost to a row; what it printed."""
    cpu, started = cpu_of_children(), time.monotonic()
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=cwd,
        text=True,
    )
    memory = PeakMemory(process.pid)
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command}: {err}")
    if sync is not None:
        file = os.open(sync, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    row.seconds.append(time.monotonic() - started)
    row.cpu.append(cpu_of_children() - cpu)
    row.peak_bytes = max(row.peak_bytes, memory.stop())
    return out


def cpu_of_children() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


def versions() -> str:
    """Versions of the tools."""
    said = []
    for command in ((*HVPS, "--version"), ("restic", "version"), ("borg", "--version")):
        if shutil.which(command[0]) is not None:
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            said.append(" ".join(done.stdout.split()[:2]).replace(",", ""))
    return ", ".join(said)


@dataclass(slots=True)
class Peers:
    """Three repositories for the same image.

    Attributes:
        folder: has a repository of each tool, and ``out`` for what is restored.
        point: short id of the newest point of hvps.
        api: rows of :meth:`stores` without the start of Python and the key, by the name of the row.
    """

    folder: Path
    restic: bool = field(default_factory=lambda: shutil.which("restic") is not None)
    borg: bool = field(default_factory=lambda: shutil.which("borg") is not None)
    point: str = ""
    api: dict[str, Row] = field(default_factory=dict)

    def create(self) -> None:
        """Make empty repositories."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "key"
        key.write_text(PASSWORD)
        key.chmod(0o600)
        create_repository(str(self.folder / "hvps"), key=Secret(PASSWORD)).close()
        if self.restic:
            quietly("restic", "-q", "-r", self.folder / "restic", "init")
        if self.borg:
            # The faster of its two ways to hash: this one where processors have instructions for SHA-256.
            sha = "sha_ni" in Path("/proc/cpuinfo").read_text()
            quietly("borg", "init", "-e", "repokey" if sha else "repokey-blake2", self.folder / "borg")

    @property
    def hvps(self) -> list[str | Path]:
        """Options of hvps for its repository."""
        return ["--repo", self.folder / "hvps", "--key-file", self.folder / "key"]

    def stores(self, raw: Path, changed: Path | None = None) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that store the image once each.

        Args:
            raw: the image.
            changed: a file with the extents that changed since the last point, which hvps is told; the others
                read the whole image.
        """

        def counted(command: list[str | Path], name: str) -> Callable[[Row], None]:
            def store(row: Row) -> None:
                before = _bytes_in(self.folder / name)
                said = run(row, command, cwd=raw.parent)
                row.stored_bytes = _bytes_in(self.folder / name) - before
                if name == "hvps":
                    document: dict[str, Any] = json.loads(said)
                    self.point = document["point"]
                    api = self.api.setdefault(row.name, Row(f"{row.name} (API)"))
                    api.seconds.append(document["seconds"])
                    api.cpu.append(document["cpu_seconds"])

            return store

        told: list[str | Path] = [] if changed is None else ["--changed", changed]
        yield "hvps store", counted([*STORE, *self.hvps, *told, raw], "hvps")
        if self.restic:
            command: list[str | Path] = ["restic", "-q", "-r", self.folder / "restic", "backup", raw.name]
            yield "restic backup", counted(command, "restic")
        if self.borg:
            place = f"{self.folder / 'borg'}::{{utcnow:%H%M%S%f}}"
            yield "borg create", counted(["borg", "create", place, raw.name], "borg")

    def restores(self, *, cold: bool = False) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that restore the newest point once each."""
        out = self.folder / "out"

        def cleared(command: list[str | Path], source: str) -> Callable[[Row], None]:
            def restore(row: Row) -> None:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                quietly("sync", "-f", out)
                if cold:
                    evict(self.folder / source)
                run(row, command, sync=out / "disk.raw", cwd=out)

            return restore

        suffix = ", cold" * cold
        to = f"raw:{out / 'disk.raw'}"
        command: list[str | Path] = [
            *HVPS,
            "restore",
            self.point,
            "--disk",
            "0",
            "--to",
            to,
            "-q",
            *self.hvps,
        ]
        yield f"hvps restore{suffix}", cleared(command, "hvps")
        if self.restic:
            command = ["restic", "-q", "-r", self.folder / "restic", "restore", "latest", "--target", out]
            yield f"restic restore{suffix}", cleared(command, "restic")
        if self.borg:
            listed = ["borg", "list", "--short", "--last", "1", str(self.folder / "borg")]
            done = subprocess.run(listed, check=True, capture_output=True, text=True, env=environment())
            command = ["borg", "extract", "--sparse", f"{self.folder / 'borg'}::{done.stdout.strip()}"]
            yield f"borg extract --sparse{suffix}", cleared(command, "borg")

    def verifies(self) -> Iterator[tuple[str, Callable[[Row], None]]]:
        """Names of tools, and functions that check all data once each."""
        yield (
            "hvps verify --level hashed",
            lambda row: _run(row, [*HVPS, "verify", "--level", "hashed", *self.hvps]),
        )
        if self.restic:
            command: list[str | Path] = ["restic", "-q", "-r", self.folder / "restic"]
            command += ["check", "--read-data"]
            yield "restic check --read-data", lambda row: _run(row, command)
        if self.borg:
            borg: list[str | Path] = ["borg", "check", "--verify-data", self.folder / "borg"]
            yield "borg check --verify-data", lambda row: _run(row, borg)


def _run(row: Row, command: list[str | Path]) -> None:
    run(row, command)


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def in_turn(
    group: list[tuple[str, Callable[[Row], None]]], rounds: int, rows: dict[str, Row] | None = None
) -> list[Row]:
    """Rows of some tools, which take turns."""
    made = [Row(name) if rows is None else rows.setdefault(name, Row(name)) for name, _ in group]
    for _ in range(rounds):
        for row, (_, work) in zip(made, group, strict=True):
            work(row)
    return made


def print_rows(rows: list[Row], size_bytes: int) -> None:
    """The table of all rows."""
    print(
        f"{'':32} {'median':>8} {'fastest':>8} {'CPU s':>7} {'MB/s':>7} {'reads/s':>8} {'stored MB':>9} "
        f"{'memory':>9}"
    )
    for row in rows:
        rate = (
            f"{'':7} {row.reads / row.median:8.0f}"
            if row.reads
            else f"{size_bytes / row.median / 1e6:7.0f} {'':8}"
        )
        memory = f"{row.peak_bytes // KIB // KIB} MiB" if row.peak_bytes else ""
        stored = "" if row.stored_bytes is None else f"{row.stored_bytes / 1e6:.1f}"
        print(
            f"{row.name:32} {row.median:7.2f}s {min(row.seconds):7.2f}s "
            f"{statistics.median(row.cpu):7.2f} {rate} {stored:>9} {memory:>10}"
        )

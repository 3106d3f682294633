"""A full backup and an increment against a simulated host in another process, and peak memory.

    python benchmarks/end_to_end.py [--size 4GiB] [--engine builtin|powershell] [--sparse 1TiB] [--folder DIR]

Prints a table and, on its last line, the same as JSON. Rates are raw bytes of the disk a second as ``hvps
backup --json`` tells them, and for the whole command, checkpoint, conversion and merge included. Exits 1 when
a restored disk is not the frozen one, or hvps needed more memory than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _disks
import _processes

from hvpsbridge.units import MIB, TIB, duration_text, parse_size, rate_text, size_text

LIMIT_BYTES = 256 * MIB
CHURN = 0.01
SPARSE_DATA_BYTES = 256 * MIB
PASSWORD = "HVPS_PASSWORD"
HOST = ("--user", "backup", "--auth", "basic", "--password-env", PASSWORD)


@dataclass(frozen=True, slots=True)
class Row:
    """A command and what it took."""

    what: str
    disk_bytes: int
    changed_bytes: int
    read_bytes: int
    wire_bytes: int
    stored_bytes: int
    disk_seconds: float
    seconds: float
    peak_bytes: int


class Bench:
    """One VM with one disk on a simulated host, backed up into a new repository."""

    def __init__(self, folder: Path, engine: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.engine = folder, engine
        self.state, self.repository = folder / "hyper-v", folder / "repository"
        self.rows: list[Row] = []
        self.equal = True

    def play(self, image: Path, newer: Path, names: tuple[str, str]) -> None:
        """Back up, change the disk, back up again, and restore and compare both points."""
        log = self.folder / "hyper-v.log"
        serving = ("--folder", self.state, "--engine", self.engine, "--password-env", PASSWORD, "--json")
        with _processes.background("sim", "serve", *serving, log=log) as (host, facts):
            url = str(facts["url"])
            memory = _processes.PeakMemory(host.pid)
            _processes.hvps("sim", "import", "vm", image, "--folder", self.state, "--json")
            _processes.hvps("repo", "init", self.repository, "--plain", "--json")
            self._backup(names[0], url)
            _processes.hvps("sim", "apply", "vm", newer, "--folder", self.state, "--json")
            self._backup(names[1], url)
            self._restore()
            print(f"peak memory of the simulated host ({self.engine}): {size_text(memory.stop())}")

    def _backup(self, what: str, url: str) -> None:
        done = _processes.hvps("backup", url, "vm", "--repo", self.repository, *HOST, "--json")
        (task,) = [task for task in done.document["tasks"] if task["backup"] is not None]
        (disk,) = task["backup"]["disks"]
        self._row(f"{what} ({disk['mode']})", done, disk, disk["seconds"])

    def _row(self, what: str, done: _processes.Done, disk: dict[str, Any], disk_seconds: float) -> None:
        self.rows.append(
            Row(
                what,
                disk["size_bytes"],
                disk.get("changed_bytes", 0),
                disk.get("read_bytes", disk.get("data_bytes", 0)),
                disk.get("wire_bytes", 0),
                disk.get("stored_bytes", 0),
                disk_seconds,
                done.seconds,
                done.peak_bytes,
            )
        )

    def _restore(self) -> None:
        points = _processes.hvps("list", "--repo", self.repository, "--json").document["points"]
        for number, point in enumerate(points):
            target = self.folder / f"restored-{number}"
            done = _processes.hvps(
                "restore", point["point_id"], "--to", f"raw:{target}", "--repo", self.repository, "--json"
            )
            (disk,) = restored_disks(done.document)
            self._row(f"restore of point {number + 1}", done, disk, disk["seconds"])
            kept = _processes.hvps(
                *("sim", "kept", point["checkpoint_id"], "--slot", disk["slot"]),
                *("--folder", self.state, "--json"),
            ).document["path"]
            self.equal &= equal(Path(kept), Path(disk["path"]))
            Path(disk["path"]).unlink()


def restored_disks(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The files that a restore wrote."""
    if "disks" in document:
        return list(document["disks"])
    return [disk for task in document["tasks"] if task["restore"] for disk in task["restore"]["disks"]]


def data_map(path: Path) -> Iterator[tuple[int, int]]:
    """Ranges of a file that are not holes."""
    with path.open("rb") as file:
        end, at = path.stat().st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole to the end
                return
            stop = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            yield at, stop
            at = stop


def equal(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes; ranges that are holes in both are not read."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        for path in (one, other):
            for start, stop in data_map(path):
                for at in range(start, stop, 8 * MIB):
                    length = min(8 * MIB, stop - at)
                    if os.pread(left.fileno(), length, at) != os.pread(right.fileno(), length, at):
                        return False
    return True


def show(rows: list[Row]) -> None:
    """The rows as a table."""
    heads = ("", "disk", "changed", "wire", "stored", "disk time", "rate", "command", "peak memory")
    cells = [
        (
            row.what,
            size_text(row.disk_bytes),
            size_text(row.changed_bytes),
            size_text(row.wire_bytes),
            size_text(row.stored_bytes),
            duration_text(row.disk_seconds),
            rate_text(row.read_bytes, row.disk_seconds),
            duration_text(row.seconds),
            size_text(row.peak_bytes),
        )
        for row in rows
    ]
    widths = [max(len(line[index]) for line in (heads, *cells)) for index in range(len(heads))]
    for line in (heads, *cells):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("4GiB"))
    parser.add_argument("--sparse", type=parse_size, default=TIB, help="size of the sparse disk; 0 for none")
    parser.add_argument("--engine", choices=("builtin", "powershell"), default="builtin")
    parser.add_argument("--folder", type=Path, help="folder to work in; a temporary one by default")
    options = parser.parse_args()
    rows: list[Row] = []
    equal_disks = True
    with tempfile.TemporaryDirectory(prefix="hvps-bench-", dir=options.folder) as temporary:
        place = Path(temporary)
        settings = place / "config.yaml"
        settings.write_text("{}\n")
        # Do not use the user's configuration and cache, and put no password on a command line.
        os.environ |= {
            PASSWORD: secrets.token_urlsafe(18),
            "HVPS_CONFIG": str(settings),
            "XDG_CACHE_HOME": str(place / "cache"),
        }
        for label, size, make in (
            ("full disk", options.size, lambda path, size: _disks.fill(path, size, 1)),
            (
                "sparse disk",
                options.sparse,
                lambda path, size: _disks.sparse(path, size, SPARSE_DATA_BYTES, 2),
            ),
        ):
            if not size:
                continue
            image, newer = place / "image.raw", place / "newer.raw"
            make(image, size)
            share = CHURN if label == "full disk" else CHURN * SPARSE_DATA_BYTES / size
            rewritten = _disks.day_later(image, newer, share, 3)
            print(f"{label}: {size_text(size)}, the guest rewrites {size_text(rewritten)}", flush=True)
            bench = Bench(place / label.replace(" ", "-"), options.engine)
            bench.play(image, newer, (f"{label}, first", f"{label}, second"))
            rows += bench.rows
            equal_disks &= bench.equal
            for leftover in (image, newer):
                leftover.unlink()
            subprocess.run(["rm", "-r", str(bench.folder)], check=True)
    print(f"\n{options.engine} engine, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    show(rows)
    peak = max(row.peak_bytes for row in rows)
    print(f"restored disks equal the frozen ones: {'yes' if equal_disks else 'NO'}")
    print(f"peak memory of hvps {size_text(peak)}, limit {size_text(LIMIT_BYTES)}")
    print(json.dumps({"engine": options.engine, "equal": equal_disks, "rows": [asdict(row) for row in rows]}))
    return 0 if equal_disks and peak <= LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())

"""The steps of the demo, in order."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvpsbridge.demo import guests
from hvpsbridge.demo.commands import Commands
from hvpsbridge.demo.guests import DemoDisk, SkippedFileSystem
from hvpsbridge.demo.host import DemoHost
from hvpsbridge.errors import ToolFailed
from hvpsbridge.resources import resource_folder
from hvpsbridge.sim.guests import check_disk, images_equal
from hvpsbridge.units import size_text

_USER = "backup"
# From which playbooks/nightly-backup.yaml takes the password.
_PASSWORD = "HVPS_PASSWORD"  # noqa: S105 - a variable's name
_RUNS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """One disk in one run, from ``hvps run --json``."""

    run: int
    vm: str
    slot: str
    mode: str
    reason: str
    changed_bytes: int
    read_bytes: int
    wire_bytes: int
    stored_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskProof:
    """Result of checking one restored disk of one point.

    Attributes:
        unequal: first difference from the image of the frozen disk; empty if there is none.
        unclean: errors that checkers found in the partition table and the file systems.
        different: files that differ from those of the guest.
        files: number of files that are equal.
        files_expected: number of files in the guest.
    """

    point_id: str
    vm: str
    slot: str
    file_systems: tuple[str, ...]
    unequal: str
    unclean: tuple[str, ...]
    different: tuple[str, ...]
    files: int
    files_expected: int

    @property
    def good(self) -> bool:
        """Whether everything is as in the guest, and there were files to compare."""
        return 0 < self.files == self.files_expected and not (self.unequal or self.unclean or self.different)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Result of the demo."""

    engine: str
    backups: tuple[BackedUp, ...]
    proofs: tuple[DiskProof, ...]
    left_out: tuple[SkippedFileSystem, ...]
    seconds: float
    disks: int

    @property
    def good(self) -> bool:
        """Whether every disk of every point is good, and the second run was incremental."""
        return (
            len(self.proofs) == self.disks * _RUNS == len(self.backups)
            and all(proof.good for proof in self.proofs)
            and all(row.mode == "incremental" for row in self.backups if row.run > 1)
        )


def play(folder: Path, *, engine: str, small: bool, note: Callable[[str], None]) -> DemoResult:
    """Play the demo in an empty folder.

    Args:
        folder: where the guests, the repository and the restored disks go.
        engine: ``builtin`` or ``powershell``.
        small: make a tenth of the files.
        note: called with a line for each step.

    Raises:
        HvpsError: a step could not be done.
    """
    started = time.monotonic()
    usable, left_out = guests.usable()
    note("creating guests: two VMs, three disks, real file systems with real files")
    disks = guests.build(folder / "guests", usable, small=small)
    for disk in disks:
        note(f"{disk.vm} {disk.slot}: {disk.newest.files} files")

    password = secrets.token_urlsafe(18)
    repository = folder / "repository"
    commands = Commands(folder, {_PASSWORD: password, "XDG_CACHE_HOME": str(folder / "cache")})
    with DemoHost(commands, folder, engine=engine, user=_USER, password_variable=_PASSWORD) as host:
        note(f"a simulated Hyper-V host listens at {host.url} ({engine} engine)")
        for disk in disks:
            host.import_disk(disk.vm, disk.slot, disk.newest.image)
        commands.json("repo", "init", repository, "--plain")
        backups: list[BackedUp] = []
        for run in range(1, _RUNS + 1):
            if run > 1:
                note("a day later: the guests have changed, added and deleted files")
                guests.keep_running(disks)
                for disk in disks:
                    host.apply(disk.vm, disk.slot, disk.newest.image)
            backups += _run(commands, host.url, repository, run, note)
        proofs = _prove(commands, host, repository, disks, folder / "restored", note)
    return DemoResult(
        engine=engine,
        backups=tuple(backups),
        proofs=tuple(proofs),
        left_out=left_out,
        seconds=time.monotonic() - started,
        disks=len(disks),
    )


def _run(
    commands: Commands, url: str, repository: Path, run: int, note: Callable[[str], None]
) -> list[BackedUp]:
    playbook = resource_folder("playbooks") / "nightly-backup.yaml"
    note(f"run {run}: hvps run {playbook.name}")
    variables = {"address": url, "user": _USER, "auth": "basic", "repository": str(repository)}
    options = [text for name, value in variables.items() for text in ("-e", f"{name}={value}")]
    report = commands.json("run", playbook, *options, show=True)
    rows = [
        BackedUp(
            run=run,
            vm=task["vm"],
            slot=disk["slot"],
            mode=disk["mode"],
            reason=disk["reason_text"],
            changed_bytes=disk["changed_bytes"],
            read_bytes=disk["read_bytes"],
            wire_bytes=disk["wire_bytes"],
            stored_bytes=disk["stored_bytes"],
            seconds=disk["seconds"],
        )
        for task in report["tasks"]
        if task["backup"] is not None
        for disk in task["backup"]["disks"]
    ]
    return sorted(rows, key=lambda row: (row.vm, row.slot))


def _prove(
    commands: Commands,
    host: DemoHost,
    repository: Path,
    disks: Sequence[DemoDisk],
    folder: Path,
    note: Callable[[str], None],
) -> list[DiskProof]:
    """Restore every disk of every point and check it, one point at a time to save space."""
    proofs: list[DiskProof] = []
    points: list[dict[str, Any]] = commands.json("list", "--repo", repository)["points"]
    for vm in dict.fromkeys(disk.vm for disk in disks):
        line = [point for point in points if point["vm"] == vm]
        for moment, point in enumerate(line):
            note(f"restoring {vm}, point {moment + 1} of {len(line)}")
            selector, target = str(point["point_id"]), folder / str(point["point_id"])
            restored = commands.json(
                "restore", selector, "--to", f"raw:{target}", "--repo", repository, show=True
            )
            for disk in _disks_of(restored):
                guest = _guest_disk(disks, vm, disk["slot"])
                note(f"checking {vm} {guest.slot}, {size_text(disk['size_bytes'])}")
                proofs.append(_check(host, point, guest, moment, Path(disk["path"])))
            shutil.rmtree(target, ignore_errors=True)
    return proofs


def _disks_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks that were written, from the document of a restore."""
    if "disks" in document:
        return list(document["disks"])
    return [disk for task in document["tasks"] if task["restore"] for disk in task["restore"]["disks"]]


def _guest_disk(disks: Sequence[DemoDisk], vm: str, slot: str) -> DemoDisk:
    for disk in disks:
        if (disk.vm, disk.slot) == (vm, slot):
            return disk
    raise ToolFailed("hvps restore", 0, f"restored disk {slot}, which {vm} does not have")


def _check(host: DemoHost, point: dict[str, Any], guest: DemoDisk, moment: int, raw: Path) -> DiskProof:
    state = guest.states[moment]
    check = check_disk(raw, state.file_lists, scratch=raw.parent)
    return DiskProof(
        point_id=str(point["point_id"]),
        vm=guest.vm,
        slot=guest.slot,
        file_systems=check.file_systems,
        unequal=images_equal(host.golden_image(str(point["checkpoint_id"]), guest.slot), raw),
        unclean=check.unclean,
        different=check.different,
        files=check.files,
        files_expected=state.files,
    )

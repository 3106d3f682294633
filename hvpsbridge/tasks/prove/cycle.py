"""The product itself on the scratch VM: backups with proofs, a crash at each step, a sweep and a restore."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from hvpsbridge.contract.results import VmInfo
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.formats.os_build import OsBuild
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.backup import vm as backup_of_vm
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.leftovers import Owner, VmObjects, find_objects
from hvpsbridge.tasks.cleanup.sweep import SweepContext, forget_vm, sweep_vm
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.host_records import build_of
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.policy import REFERENCE_IDS, BackupOptions, ProofPolicy
from hvpsbridge.tasks.prove.findings import Findings, NotPossible, StageFailed
from hvpsbridge.tasks.prove.operations import Operations
from hvpsbridge.tasks.prove.scratch import Earlier
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.task import TaskContext

INCREMENTS = 3
BACKUPS = ("full", *(f"increment {number + 1}" for number in range(INCREMENTS)))

# Starts a backup from a function that opens a session for it, and kills it before a step.
Crash = Callable[[Callable[[], BackupContext], Step], None]
# Of --long.
LONG_INCREMENTS = 20
IDLE_SECONDS = 3 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """The stages of this module.

    Attributes:
        vm: the scratch VM.
        repository: of this proof only.
        options: of backups; each is proved whole, whatever they say.
        observer: receives events of backups and the restore.
        connect: opens a session on the host for a run, whose id is in the names of its shells.
        crash: makes a backup die before a step, as a killed process does.
        folder: where disks are restored.
        earlier: what the last proof with this VM left, if that was killed.
        seed: of the first write; each backup gets a write of its own.
    """

    vm: VmInfo
    operations: Operations
    repository: Repository
    options: BackupOptions
    observer: Observer
    cancel: Cancellation
    found: Findings
    connect: Callable[[UUID], HyperVHost]
    crash: Crash
    folder: Path
    earlier: Earlier = field(default_factory=Earlier)
    seed: int = 100

    def backups(self) -> None:
        """A full and increments, each proved whole before it is committed."""
        modes: list[str] = []
        good = clean = True
        # Of several disks the guest of the kit writes one; the others change nothing, so they are compared.
        tracked = set(self.found.facts.get("window.slots") or map(slot_of, self.operations.tracked()))
        for number, name in enumerate(BACKUPS):
            with self.found.stage(name, 3, 5) as remarks:
                if number:
                    self.operations.write_everywhere(self.seed + number)
                result = self._backup()
                if number:
                    modes += [disk.mode.value for disk in result.disks if disk.slot in tracked]
                good, clean = good and result.point_id is not None, clean and not result.leftovers
                self._judge(result, remarks)
        self.found.fact("cycle.modes", modes)
        self.found.fact("cycle.increments", bool(modes) and set(modes) == {Mode.INCREMENTAL.value})
        self.found.fact("cycle.points_good", good)
        self.found.fact("cycle.host_clean", clean)

    def crashes(self) -> None:
        """A backup dies before each step; the next one cleans up, and the last one ends well."""
        claimed = 0
        with self.found.stage("crashes", 8, 9, 22) as remarks:
            for number, step in enumerate(Step):
                self.found.note(f"crash before: {step.text}")
                self.operations.write_everywhere(self.seed + 20 + number)
                self.crash(self._begin, step)
                self.repository.refresh()
                claimed += self._claim()
            result = self._backup()
            self._judge(result, remarks)
            remarks.append(f"{len(Step)} crashes")
            self.found.fact("crashes.steps", len(Step))
            self.found.fact("crashes.reference_points_claimed", claimed)
            self.found.fact("crashes.then_mode", [disk.mode.value for disk in result.disks])

    def sweep(self) -> None:
        """A crash with a checkpoint on the host, then a sweep instead of a backup."""
        with self.found.stage("sweep", 9) as remarks:
            self.operations.write_everywhere(self.seed + 60)
            self.crash(self._begin, Step.COMMIT)
            self.repository.refresh()
            with self.connect(uuid4()) as host:
                found = find_objects(host, self.repository, self.vm, host.shells())
                before = len(found.of(Owner.LEFTOVER))
                result = sweep_vm(self._sweeping(host), found)
                if result.error is not None:
                    raise result.error
                after = find_objects(host, self.repository, self.vm, host.shells())
                left = [thing.name for thing in after.of(Owner.LEFTOVER)]
            self.found.fact("sweep.found", before)
            self.found.fact("sweep.left", left)
            remarks.append(f"{before} leftovers removed")
            if left or not before:
                raise StageFailed(f"left: {', '.join(left)}" if left else "the crash left nothing to sweep")

    def restore(self) -> None:
        """Restore a new point, and compare it with what the host hashes of the same moment.

        While a guest writes, no later moment is the same: then the point itself, which was proved whole, is
        compared.
        """
        with self.found.stage("restore", 5) as remarks:
            result = self._backup()
            if result.error is not None or result.point_id is None:
                raise result.error or StageFailed("there is no point to restore")
            restored = restore_vm(
                TaskContext(
                    vm=VmRef(self.operations.host.name, self.vm.vm_id, self.vm.name),
                    repository=self.repository,
                    run_id=uuid4(),
                    observer=self.observer,
                    cancel=self.cancel,
                ),
                RestoreOptions(to=f"raw:{self.folder}", overwrite=True),
            )
            if restored.error is not None:
                raise restored.error
            paths = {disk.slot: Path(disk.path) for disk in restored.disks}
            if self.operations.scratch.writes_online:
                unproved = [disk.slot for disk in result.disks if disk.proved_bytes < disk.size_bytes]
                if unproved:
                    raise StageFailed(f"not proved whole: {', '.join(unproved)}")
                different = self._differences_of_point(paths)
            else:
                different = self._differences(paths)
            self.found.fact("restore.different_chunks", different)
            for path in paths.values():
                path.unlink(missing_ok=True)
            if different:
                raise StageFailed(f"{different} chunks differ from the frozen disks")
            remarks.append(f"{len(paths)} disks equal")

    def soak(self) -> None:
        """Many increments, and a session that was idle for hours."""
        for number in range(LONG_INCREMENTS):
            with self.found.stage(f"long: increment {number + 1}", 18, 20) as remarks:
                self.operations.write_everywhere(self.seed + 200 + number)
                self._judge(self._backup(), remarks)
        with self.found.stage("long: idle session", 18):
            if not self.cancel.pause(IDLE_SECONDS):
                raise NotPossible("stopped")
            self.operations.host.host_info()

    def forget(self) -> None:
        """Remove everything that hvps made for the scratch VM."""
        with self.found.stage("clean up", 9):
            self.repository.refresh()
            self._forget(self.repository)

    def clean_earlier(self) -> None:
        """Remove what a killed proof left on the host."""
        with self.found.stage("leftovers of earlier proofs", 9):
            self.operations.scratch.clean()
            if self.earlier.repository is not None:
                self._forget(self.earlier.repository)
            if self.earlier.repository_id is not None:
                self.operations.clean(self.earlier.repository_id, self.earlier.reference_points)

    def _forget(self, repository: Repository) -> None:
        with self.connect(uuid4()) as host:
            found = find_objects(host, repository, self.vm, host.shells())
            context = replace(self._sweeping(host), repository=repository, ours=_unclear_points(found))
            result = forget_vm(context, found)
        if result.error is not None:
            raise result.error
        if result.left:
            raise StageFailed("; ".join(result.left))

    # -- steps ------------------------------------------------------------------------------------------

    def _differences(self, paths: dict[str, Path]) -> int:
        """Chunks of restored disks that the host hashes differently now. Nothing has written since."""
        different = 0
        unit = self.repository.grid.chunk_bytes
        with self.operations.frozen() as (_, disks):
            for disk in disks:
                with paths[slot_of(disk)].open("rb") as file:
                    for page in self.operations.host.digests(disk.path, unit, 0, disk.size_bytes):
                        for at in range(0, len(page.digests), DIGEST_BYTES):
                            piece = file.read(unit)
                            digest = page.digests[at : at + DIGEST_BYTES]
                            different += hashlib.sha256(piece).digest() != digest
        return different

    def _differences_of_point(self, paths: dict[str, Path]) -> int:
        """Chunks of restored disks that differ from the newest point."""
        different = 0
        self.repository.refresh()
        point = self.repository.catalog.points(self.vm.vm_id)[-1]
        for disk in point.disks:
            with paths[disk.slot].open("rb") as file, self.repository.image(point, disk) as image:
                while piece := image.read(self.repository.grid.chunk_bytes):
                    different += file.read(len(piece)) != piece
        return different

    def _backup(self) -> BackupResult:
        context = self._begin()
        with context.host:
            return backup_of_vm.run(context)

    def _begin(self) -> BackupContext:
        """A backup with a session. A later run ends its shells, which it knows by the run's id."""
        run_id = uuid4()
        host = self.connect(run_id)
        return BackupContext(
            host=host,
            vm_id=self.vm.vm_id,
            vm_name=self.vm.name,
            options=replace(
                self.options,
                proof=ProofPolicy.ALWAYS,
                proved_builds=self._declared(build_of(host.host_info())),
            ),
            repository=self.repository,
            run_id=run_id,
            observer=self.observer,
            cancel=self.cancel,
            budget=ByteBudget(),
            connect=partial(self.connect, run_id),
        )

    def _declared(self, build: OsBuild) -> tuple[str, ...]:
        """What backups of the scratch VM take for proved, so that it is: each increment is proved whole."""
        facts = self.found.facts
        differ = facts.get("reference_point.ids_equal_frozen") is False
        tries = differ and facts.get("window.covered") is not False
        return (f"{build}{REFERENCE_IDS}",) if tries else ()

    def _claim(self) -> int:
        """Remove reference points that cannot be known by their ids, as a person would; their number."""
        if self.found.facts.get("reference_point.ids_equal_frozen") is not False:
            return 0
        with self.connect(uuid4()) as host:
            found = find_objects(host, self.repository, self.vm, host.shells())
            unclear = _unclear_points(found)
            if unclear:
                result = sweep_vm(replace(self._sweeping(host), ours=unclear), found)
                if result.error is not None:
                    raise result.error
        return len(unclear)

    def _sweeping(self, host: HyperVHost) -> SweepContext:
        return SweepContext(
            host=host,
            repository=self.repository,
            run_id=uuid4(),
            limits=self.options.limits,
            cancel=self.cancel,
        )

    def _judge(self, result: BackupResult, remarks: list[str]) -> None:
        """Remarks about a backup.

        Raises:
            HvpsError: it made no point.
            StageFailed: it left something, or its proof found that tracking had missed something.
        """
        for disk in result.disks:
            remarks.append(f"{disk.slot} {disk.mode.value} ({disk.reason_text})")
            if disk.rate_bytes and disk.mode is Mode.FULL:
                self.found.fact("read.rate_bytes", disk.rate_bytes)
            if disk.proved_bytes < disk.size_bytes:
                remarks.append(f"{disk.slot} was not proved whole")
                self.found.fact("proof.whole", False)
        lied = sum(disk.lied_chunks for disk in result.disks)
        self.found.fact("proof.lied_chunks", int(self.found.facts.get("proof.lied_chunks") or 0) + lied)
        remarks += result.warnings
        if result.error is not None:
            raise result.error
        if result.leftovers:
            raise StageFailed(f"left on the host: {'; '.join(result.leftovers)}")
        if lied:
            raise StageFailed(f"change tracking did not report {lied} changed chunks; the proof found them")


def _unclear_points(found: VmObjects) -> frozenset[str]:
    """Ids of reference points that a crash after the conversion left where ids differ.

    Nobody else makes them for the scratch VM while one is killed.
    """
    return frozenset(one.thing_id for one in found.of(Owner.UNCLEAR) if one.kind == "reference point")

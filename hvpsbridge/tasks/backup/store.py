"""Rows 5 to 8: what changed is read and stored, proved where that is due, and committed."""

from __future__ import annotations

import itertools
from datetime import datetime
from functools import partial
from uuid import uuid4

from hvpsbridge import __version__
from hvpsbridge.contract.operations import CONTRACT
from hvpsbridge.contract.results import CheckpointInfo, FrozenDisk, HostInfo
from hvpsbridge.errors import TrackingLied
from hvpsbridge.formats.manifest import FileRef, Manifest
from hvpsbridge.receiver.settings import WIRE_FACTOR
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.writer import Writer
from hvpsbridge.tasks.backup.context import Work
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.lineage import PROOFS_WANTED
from hvpsbridge.tasks.planning.plan import Mode, VmPlan
from hvpsbridge.tasks.planning.space import volume_of
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.transfer.disk_backup import DiskBackup
from hvpsbridge.tasks.transfer.disk_reader import DiskReader, open_shell
from hvpsbridge.tasks.transfer.host_side import Tools
from hvpsbridge.tasks.transfer.limits import SharedReadPermit
from hvpsbridge.tasks.transfer.parallel import side_by_side
from hvpsbridge.tasks.transfer.permits import Claim


class Storing(Work):
    """Reading, storing, proving and committing."""

    def _read(self, plan: VmPlan, frozen: dict[str, FrozenDisk], journal: Journal, writer: Writer) -> None:
        tools = Tools(
            self._repository,
            writer,
            self._around.budget,
            self._guard,
            self._policy,
            plan.vm.name,
            self._host.name,
            lambda progress: self._around.observer.progress(self._ref, progress),
            self._around.sharing,
            self._gate,
        )
        for disk in plan.disks:
            reader = DiskReader(
                partial(open_shell, self._host, self._policy.retry_limits, self._guard.pause),
                frozen[disk.slot].path,
                journal,
                self._host.name,
                self._around.sharing.shells,
                self._guard.check,
            )
            self._readers.append(reader)
            backup = DiskBackup(disk, frozen[disk.slot], reader, tools)
            self._backups.append(backup)
            self._stop_at_unexpected((backup.plan,))
        side_by_side([backup.pull for backup in self._backups], self._guard.halt)

    def _gate(self, path: str) -> SharedReadPermit:
        """A permit to read the frozen disk of that path."""
        volume = volume_of(path, self._volumes) or path[:3]
        claim = Claim(self._host.name, volume, self._vm.vm_id, path)
        return self._around.sharing.permits.gate(claim)

    def _files(self, checkpoint: CheckpointInfo, writer: Writer) -> tuple[FileRef, ...]:
        pieces = self._host.configuration(self._vm.vm_id, checkpoint.checkpoint_id)
        return tuple(
            writer.file(name, (self._paid(piece.data or b"") for piece in group))
            for (_, name), group in itertools.groupby(pieces, key=lambda piece: (piece.path, piece.name))
        )

    def _paid(self, data: bytes) -> bytes:
        """``data`` of a file, counted against the run's rate; whoever asks for more next waits for it."""
        self._around.sharing.pace.consume(int(len(data) * WIRE_FACTOR))
        return data

    def _prove(self, turn: int) -> None:
        side_by_side([partial(self._prove_disk, backup, turn) for backup in self._backups], self._guard.halt)

    def _prove_disk(self, backup: DiskBackup, turn: int) -> None:
        match self._policy.proof:
            case ProofPolicy.NEVER:
                return
            case ProofPolicy.ALWAYS:
                backup.prove_whole(believe_allocation=False)
            case ProofPolicy.AUTO:
                if backup.plan.mode is not Mode.INCREMENTAL:
                    return
                if backup.plan.proved < PROOFS_WANTED:
                    backup.prove_whole()
                else:
                    backup.audit(turn)

    def _commit(
        self,
        checkpoint: CheckpointInfo,
        taken: datetime,
        info: HostInfo,
        files: tuple[FileRef, ...],
        definition: str,
        writer: Writer,
        lease: Lease,
    ) -> Point:
        assert self._consistency is not None
        lease.check()
        disks = tuple(backup.finish(self._around.run_id) for backup in self._backups)
        manifest = Manifest(
            point_id=uuid4(),
            vm_id=self._vm.vm_id,
            vm_name=self._vm.name,
            host=self._host.name,
            run_id=self._around.run_id,
            created=taken,
            hvps_version=__version__,
            contract=CONTRACT,
            consistency_asked=self._policy.consistency.value,
            consistency=self._consistency.value,
            checkpoint_id=checkpoint.checkpoint_id,
            disks=disks,
            files=files,
            definition=definition,
            os_build=info.os_build,
            excluded=() if self._plan is None else self._plan.excluded,
        )
        point = writer.commit(manifest)
        self._point = point
        self._stored_bytes = writer.stats.stored_bytes
        for backup in self._backups:
            if backup.lied_chunks:
                self._conditions.append(TrackingLied(self._vm.name, backup.plan.slot, backup.lied_chunks))
        writer.check()
        return point

"""Rows 5 to 8: what changed is read and stored, proved where that is due, and committed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from hvpsbridge import __version__, stopping
from hvpsbridge.contract.operations import CONTRACT
from hvpsbridge.contract.results import CheckpointInfo
from hvpsbridge.errors import (
    CheckpointGone,
    CommitForkFailed,
    HostError,
    OperationFailed,
    OperationTimedOut,
    ProtocolViolation,
    TrackingLied,
    VmNotFound,
)
from hvpsbridge.formats.definition import missing_sections, without_sections
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.manifest import FileRef, Manifest, check_manifest
from hvpsbridge.receiver.settings import WIRE_FACTOR
from hvpsbridge.repository.writer import Writer
from hvpsbridge.tasks.backup.checkpoint import Frozen
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.prepare import Leased, Planned
from hvpsbridge.tasks.backup.state import BackupState, Committed, step
from hvpsbridge.tasks.planning.lineage import PROOFS_WANTED
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.plan import stop_if_unexpected
from hvpsbridge.tasks.planning.space import volume_of
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.context import TransferContext
from hvpsbridge.tasks.transfer.disk_backup import DiskBackup
from hvpsbridge.tasks.transfer.disk_reader import DiskReader, open_shell
from hvpsbridge.tasks.transfer.limits import SharedReadPermit
from hvpsbridge.tasks.transfer.parallel import run_parallel
from hvpsbridge.tasks.transfer.permits import Claim
from hvpsbridge.units import size_text


@dataclass(frozen=True, slots=True)
class Stored:
    """What a recovery point consists of, in the repository but not committed.

    Attributes:
        disks: in the order of the plan.
        files: the VM's configuration files.
        definition: the VM as JSON, to create it again from.
    """

    disks: tuple[DiskBackup, ...]
    files: tuple[FileRef, ...]
    definition: str


def store(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    writer: Writer,
) -> Stored:
    """Read and store what changed on every disk, and prove the disks where that is due.

    Raises:
        CheckpointGone: the checkpoint was removed meanwhile.
    """
    host, guard = context.host, state.guard
    with _noticing_loss(context, frozen.checkpoint):
        with guard.watching(host), step(context, state, Step.READ):
            # First: reading the disks takes hours, in which the VM may be changed.
            definition = _definition(context, state)
            disks = _read(context, state, leased, planned, frozen, writer)
        with step(context, state, Step.CONFIGURATION):
            files = _files(context, frozen.checkpoint, writer)
        with guard.watching(host), step(context, state, Step.PROVE):
            turn = planned.lineage.last_sequence
            policy = planned.trust.policy(context.options.proof)
            proofs = [partial(_prove, policy, disk, turn) for disk in disks]
            run_parallel(proofs, guard.halt)
            _note_results(context, state, leased, planned, disks)
    return Stored(disks, files, definition)


def _read(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    writer: Writer,
) -> tuple[DiskBackup, ...]:
    transfer = TransferContext(
        repository=context.repository,
        writer=writer,
        budget=context.budget,
        guard=state.guard,
        options=context.options,
        vm_name=context.vm_name,
        host_name=context.host.name,
        on_progress=partial(context.observer.progress, context.vm),
        shared=context.shared,
        permit=partial(_permit, context, planned),
        hash_bytes=planned.trust.hash_bytes,
    )
    for plan in planned.plan.disks:
        disk = frozen.disks[plan.slot]
        reader = DiskReader(
            partial(open_shell, context.host, context.options.retry_limits, state.guard.pause),
            disk.path,
            leased.journal,
            context.host.name,
            context.shared.shells,
            state.guard.check,
            state.guard.pause,
        )
        backup = DiskBackup(plan, disk, reader, transfer)
        state.disks.append(backup)
        stop_if_unexpected(context.options, context.vm_name, backup.plan)
    run_parallel([backup.pull for backup in state.disks], state.guard.halt)
    return tuple(state.disks)


def _permit(context: BackupContext, planned: Planned, path: str) -> SharedReadPermit:
    """A permit to read the frozen disk of that path."""
    volume = volume_of(path, planned.volumes) or path[:3]
    return context.shared.permits.permit(Claim(context.host.name, volume, context.vm_id, path))


def _files(context: BackupContext, checkpoint: CheckpointInfo, writer: Writer) -> tuple[FileRef, ...]:
    def counted(data: bytes) -> bytes:
        # Counts towards the rate limit of the run; the next read waits for it.
        context.shared.rate.consume(int(len(data) * WIRE_FACTOR))
        return data

    pieces = context.host.configuration(context.vm_id, checkpoint.checkpoint_id)
    return tuple(
        writer.file(name, (counted(piece.data or b"") for piece in group))
        for (_, name), group in itertools.groupby(pieces, key=lambda piece: (piece.path, piece.name))
    )


def _definition(context: BackupContext, state: BackupState) -> str:
    """The definition of the VM, as far as it can be read; a warning names what is missing."""
    try:
        definition = context.host.definition(context.vm_id).json
    except (VmNotFound, CommitForkFailed):
        raise
    except OperationFailed as err:
        definition = without_sections(err.error_id, err.message)
    except OperationTimedOut as err:
        definition = without_sections(type(err).__name__, err.describe())
    missing = missing_sections(definition)
    if missing:
        state.warn(f"the definition of the VM lacks {'; '.join(missing)}")
    return definition


def _note_results(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    disks: Iterable[DiskBackup],
) -> None:
    """Warn of proofs that were left out and of wrong answers; remember what is known about the host."""
    records = context.shared.records
    for disk in disks:
        by_reference = disk.plan.base is not None and disk.plan.base.way is IdWay.REFERENCE
        if by_reference and disk.plan.reason in (Reason.TRACKING_LIED, Reason.IDS_LATE):
            records.save(leased.info, refuted=datetime.now(UTC))
        if disk.plan.reason is Reason.EMPTY_ANSWER and (differ := disk.figures().changed_bytes):
            text = f"change tracking reported no changes, but {size_text(differ)} differ; they were read"
            state.warn(f"disk {disk.plan.slot}: {text}")
        if disk.proof_left_out:
            state.warn(f"disk {disk.plan.slot}: written, but not proved: {disk.proof_left_out}")
    rate = max((disk.hash_rate for disk in disks), default=0.0)
    if rate and not 0.8 < planned.trust.hash_bytes / rate < 1.25:
        records.save(leased.info, hash_bytes=rate)


def _prove(policy: ProofPolicy, disk: DiskBackup, turn: int) -> None:
    match policy:
        case ProofPolicy.NEVER:
            return
        case ProofPolicy.ALWAYS | ProofPolicy.AUTO:
            disk.prove_whole(believe_allocation=False)
        case ProofPolicy.SAMPLE:
            if disk.plan.mode is not Mode.INCREMENTAL:
                return
            if disk.plan.proved < PROOFS_WANTED:
                disk.prove_whole()
            else:
                disk.audit(turn)


def commit(
    context: BackupContext,
    state: BackupState,
    leased: Leased,
    planned: Planned,
    frozen: Frozen,
    stored: Stored,
    writer: Writer,
) -> Committed:
    """Make the recovery point durable.

    Raises:
        ProtocolViolation: the host reported values that no recovery point can have.
        RepositoryError: it could not be stored, or some of its packs are gone again.
    """
    with step(context, state, Step.COMMIT):
        leased.lease.check()
        manifest = Manifest(
            point_id=uuid4(),
            vm_id=context.vm_id,
            vm_name=planned.plan.vm.name,
            host=context.host.name,
            run_id=context.run_id,
            created=frozen.taken,
            hvps_version=__version__,
            contract=CONTRACT,
            consistency_asked=context.options.consistency.value,
            consistency=frozen.consistency.value,
            checkpoint_id=frozen.checkpoint.checkpoint_id,
            disks=tuple(disk.finish(context.run_id) for disk in stored.disks),
            files=stored.files,
            definition=stored.definition,
            os_build=leased.info.os_build,
            os_revision=leased.info.os_revision or 0,
            excluded=planned.plan.excluded,
        )
        try:
            check_manifest(manifest)
        except Malformed as err:
            # All in it comes from the host, so that the storage is not to blame.
            raise ProtocolViolation(context.host.name, "backup", str(err)) from err
        point = writer.commit(manifest, {disk.base for disk in manifest.disks if disk.base is not None})
        state.committed = committed = Committed(point, writer.stats.stored_bytes)
        for disk in stored.disks:
            if disk.lied_chunks:
                state.conditions.append(TrackingLied(context.vm_name, disk.plan.slot, disk.lied_chunks))
        writer.check()
        return committed


@contextlib.contextmanager
def _noticing_loss(context: BackupContext, checkpoint: CheckpointInfo) -> Iterator[None]:
    """Turn an error of the host into CheckpointGone if the checkpoint no longer exists.

    Raises:
        CheckpointGone: it does not.
    """
    try:
        yield
    except HostError as err:
        gone = False
        with contextlib.suppress(HostError), stopping.checked_by(context.cancel.check):
            there = {one.checkpoint_id for one in context.host.checkpoints(context.vm_id)}
            gone = checkpoint.checkpoint_id not in there
        if gone:
            raise CheckpointGone(context.host.name, context.vm_name) from err
        raise

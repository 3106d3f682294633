"""What happens to ids of change tracking, and to checkpoints, when the scratch VM is changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hvpsbridge.contract.results import FrozenDisk
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import HostError, OperationFailed
from hvpsbridge.formats.extents import Extent, normalise, subtract, total_bytes
from hvpsbridge.tasks.prove.findings import NotPossible
from hvpsbridge.tasks.prove.guest_records import GuestRecord, read_records, written_within
from hvpsbridge.tasks.prove.operations import LONG_WRITE_BYTES, Operations
from hvpsbridge.units import MIB, size_text

# How long the guest writes between the freeze and the conversion. Its round takes longer, so that what it
# wrote then is still there at the next freeze.
WINDOW_SECONDS = 10.0
# With fewer records from before the conversion it is not shown that the guest was writing all the time.
ENOUGH_RECORDS = 8


@dataclass(frozen=True, slots=True)
class Incidents:
    """Stages that change the scratch VM between operations."""

    ops: Operations

    def writes_in_the_window(self) -> None:
        """Whether the reference point's id covers writes between the freeze and the conversion."""
        with self.ops.found.stage("writes before the conversion", 5) as remarks:
            if self.ops.scratch.writes_online:
                missing = self._missing_of_guest()
                records = self.ops.found.facts["window.records"]
                remarks.append(f"{records} records of the guest, {size_text(missing)} missing")
            else:
                window: dict[str, tuple[Extent, ...]] = {}
                missing = self._missing(
                    lambda disks: window.update(self.ops.write_everywhere(6)), lambda disks: window
                )
            self.ops.found.fact("window.missing_bytes", missing)
            self.ops.found.fact("window.covered", not missing)
            self.ops.found.fact("window.by_guest", self.ops.scratch.writes_online)
            equal = self.ops.found.facts.get("reference_point.ids_equal_frozen", True)
            self.ops.found.fact("reference_point.own_id_of_freeze", not missing and not equal)

    def _missing_of_guest(self) -> int:
        """As :meth:`_missing`, of what the guest is known to have written before the conversion."""
        before: dict[str, dict[int, GuestRecord]] = {}
        seconds = 0.0

        def wait(disks: Sequence[FrozenDisk]) -> None:
            nonlocal seconds
            started = self.ops.clock()
            before.update({slot_of(disk): read_records(self.ops.host, disk) for disk in disks})
            self.ops.pause(WINDOW_SECONDS)
            seconds = self.ops.clock() - started

        def written(disks: Sequence[FrozenDisk]) -> dict[str, tuple[Extent, ...]]:
            found = {
                slot_of(disk): written_within(
                    before[slot_of(disk)], read_records(self.ops.host, disk), seconds
                )
                for disk in disks
            }
            count = sum(map(len, found.values()))
            self.ops.found.fact("window.records", count)
            self.ops.found.fact("window.slots", [slot for slot, extents in found.items() if extents])
            if count < ENOUGH_RECORDS:
                raise NotPossible(
                    f"only {count} records of the guest are known to be from before the conversion, so ids "
                    "of reference points are not proved; is the Linux disk of this version running?"
                )
            return found

        return self._missing(wait, written)

    def _missing(
        self,
        meanwhile: Callable[[Sequence[FrozenDisk]], object],
        written: Callable[[Sequence[FrozenDisk]], dict[str, tuple[Extent, ...]]],
    ) -> int:
        """Bytes of writes before a conversion that are not in the changes since its reference point's id.

        Args:
            meanwhile: called between the freeze and the conversion.
            written: gives those writes by slot, from the frozen disks of the next checkpoint.

        Raises:
            NotPossible: tracking does not answer. That is no write that an id misses.
        """
        point = self.ops.reference_point(meanwhile)
        try:
            with self.ops.frozen() as (_, disks):
                writes, missing = written(disks), 0
                ids = self.ops.ids_by_slot(point, disks)
                for disk in disks:
                    slot = slot_of(disk)
                    if slot not in ids or not writes.get(slot):
                        continue
                    try:
                        known = normalise(self.ops.raw_changes(disk, ids[slot]).extents, disk.size_bytes)
                    except OperationFailed as err:
                        raise NotPossible(f"change tracking does not answer: {err.describe()}") from err
                    missing += total_bytes(subtract(normalise(writes[slot], disk.size_bytes), known))
                if not any(writes.get(slot) for slot in ids):
                    raise NotPossible("the reference point has no id of a disk that was written")
                return missing
        finally:
            self.ops.remove(point)

    def two_checkpoints(self) -> None:
        """Whether a recovery checkpoint can be made beside another one, as that of another product."""
        with self.ops.found.stage("two checkpoints", 22), self.ops.frozen():
            try:
                with self.ops.frozen():
                    self.ops.found.fact("checkpoint.second_works", True)
            except HostError as err:
                self.ops.found.fact("checkpoint.second_works", False)
                self.ops.found.fact("checkpoint.second_refusal", err.describe())

    def ids_after(self, name: str, question: int, change: Callable[[], object]) -> None:
        """Whether changes are still known after ``change`` of the VM, which writes before and after it.

        The fact ``ids.NAME`` is true if the query answers and covers the writes.
        """
        with self.ops.found.stage(f"ids {name.replace('_', ' ')}", question):
            first = self.ops.reference_point()
            try:
                written = self.ops.write_everywhere(2)
                change()
                later = self.ops.write_everywhere(3)
                covered = self.ops.covers(
                    first, {slot: (*extents, *later[slot]) for slot, extents in written.items()}
                )
                self.ops.found.fact(f"ids.{name}", covered)
            finally:
                self.ops.remove(first)

    def ids_in_a_child(self) -> None:
        """Whether the child that a user's checkpoint makes knows the ids of its parent."""

        def change() -> None:
            self.ops.found.fact("checkpoint.user", self.ops.scratch.user_checkpoint())

        try:
            self.ids_after("known_in_child", 3, change)
        finally:
            self._remove_user_checkpoint()

    def ids_after_apply(self) -> None:
        """An id of a branch that was left must be refused, or its changes would be missing."""
        with self.ops.found.stage("ids after apply", 3):
            checkpoint = self.ops.scratch.user_checkpoint()
            self.ops.found.fact("checkpoint.user", checkpoint)
            try:
                self.ops.write_everywhere(4)
                abandoned = self.ops.reference_point()
                try:
                    self.ops.scratch.apply_user_checkpoint(checkpoint)
                    answered = self.ops.covers(abandoned, {}, answered=True)
                    self.ops.found.fact("ids.refused_after_apply", not answered)
                finally:
                    self.ops.remove(abandoned)
            finally:
                self._remove_user_checkpoint()

    def trims(self) -> None:
        """Whether a trimmed range is reported and reads as zeros."""
        with self.ops.found.stage("trim", 5):
            tracked = self.ops.tracked()
            if not tracked:
                raise NotPossible("the scratch VM has no VHDX")
            disk, trimmed = tracked[0], Extent(2 * MIB, LONG_WRITE_BYTES)
            self.ops.scratch.write(disk, (trimmed,), 5)
            first = self.ops.reference_point()
            try:
                self.ops.scratch.unmap(disk, trimmed)
                self.ops.found.fact("unmap.reads_zeros", self.ops.scratch.reads_zeros(disk, trimmed))
                self.ops.found.fact("unmap.reported", self.ops.covers(first, {slot_of(disk): (trimmed,)}))
            finally:
                self.ops.remove(first)

    def _remove_user_checkpoint(self) -> None:
        checkpoint = self.ops.found.facts.pop("checkpoint.user", None)
        if checkpoint is not None:
            self.ops.scratch.remove_user_checkpoint(str(checkpoint))
            while self.ops.host.merge_state(self.ops.vm_id).merging and self.ops.pause(
                self.ops.limits.poll_seconds
            ):
                pass

"""Keys of an encrypted repository: key slots, and the exported key.

Removing a slot does not revoke access: someone who has opened the slot may have kept the master key. That
needs a new repository with another key (``hvps copy``).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.errors import Damaged, KeyNeeded, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.keyslot import MAX_SLOT_BYTES, ExportMark, KdfCost, KeySlot, exported_text
from hvpsbridge.repository.key_export import ExportedKey, printed_page
from hvpsbridge.repository.key_slots import (
    DEFAULT_COST,
    label_of,
    make_slot,
    read_slot,
    slot_names,
    write_slot,
)
from hvpsbridge.repository.layout import EXPORTS, slot_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.secret import Secret

logger = logging.getLogger(__name__)

# Read without trying them.
MAX_SLOTS_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot, as shown to users. ``purpose`` is ``prune`` if it opens the metadata only, else empty."""

    slot_id: UUID
    label: str
    created: datetime
    cost: KdfCost
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class _Slots:
    """Slots with their labels, damaged ones, and those that were not made with the key."""

    own: list[tuple[KeySlot, str]]
    damaged: list[Damaged]
    foreign: list[Damaged]


class KeyRing:
    """The key slots of an open repository, and the export of its key.

    Args:
        objects: of the repository.
        master: its master key; None for a plain one.
        restore_tool: the restore.py in it.
        opened_by: the slot that opened it; None for the exported key.
    """

    def __init__(
        self,
        objects: Objects,
        master: bytes | None,
        restore_tool: Callable[[], bytes],
        *,
        opened_by: UUID | None = None,
    ) -> None:
        self._objects = objects
        self._master = master
        self._opened_by = opened_by
        self._restore_tool = restore_tool

    def slots(self) -> tuple[SlotInfo, ...]:
        """The slots that were made with the key of this repository, oldest first; others are logged."""
        found = self._sort()
        for problem in (*found.damaged, *found.foreign):
            logger.error("%s", problem)
        return tuple(
            SlotInfo(slot.slot_id, label, slot.created, slot.cost, slot.purpose)
            for slot, label in sorted(found.own, key=lambda own: own[0].created)
        )

    def damaged_slots(self) -> list[Damaged]:
        """Errors of slots that are damaged, or were not made with the key of this repository; a plain one has
        no slots."""
        if self._master is None:
            return []
        found = self._sort()
        return found.damaged + found.foreign

    def slot_ids(self) -> frozenset[UUID]:
        """Ids of everything that is named as a slot, whoever made it."""
        return frozenset(UUID(name.rsplit("/", 1)[1]) for name in slot_names(self._objects.store))

    def add(
        self, passphrase: Secret, label: str = "", *, cost: KdfCost = DEFAULT_COST, purpose: str = ""
    ) -> SlotInfo:
        """Add a slot for ``passphrase``; with the purpose ``PRUNE`` it can prune and collect, and no more.

        Raises:
            KeyNeeded: the repository is plain, has no such slots, or was opened with one.
            ValueError: the passphrase is empty.
        """
        if purpose and self._objects.format < 2:
            what = "a repository of format 1 has no slots for prunes; run `hvps repo upgrade` first"
            raise KeyNeeded(self._objects.store.url, what)
        master, repository_id = self._master_key(), self._objects.repository_id
        slot = make_slot(master, repository_id, passphrase, label, cost, purpose=purpose)
        write_slot(self._objects.store, slot)
        return SlotInfo(slot.slot_id, label, slot.created, cost, purpose)

    def remove(self, slot_id: UUID) -> None:
        """Remove a slot. This does not revoke access from someone who has used its passphrase.

        Raises:
            KeyNeeded: there is no such slot, it is the last one, or the repository was opened with it.
        """
        store = self._objects.store
        names = slot_names(store)
        if slot_name(slot_id) not in names:
            raise KeyNeeded(store.url, f"there is no slot {slot_id}")
        slot = self._own_slot(slot_name(slot_id))
        if slot is None:
            # Damaged or somebody else's. It opens nothing, so it never counts as one that remains.
            store.delete(slot_name(slot_id))
            store.commit_barrier()
            return
        if not slot.purpose and self._none_remains(slot_id):
            raise KeyNeeded(store.url, "this is the last slot; add another slot first")
        if self._opened_by == slot_id:
            what = "the key that was given opens this slot; give the key of a slot that stays"
            raise KeyNeeded(store.url, what)
        removed = store.get(slot_name(slot_id), MAX_SLOT_BYTES)
        store.delete(slot_name(slot_id))
        if not slot.purpose and self._none_remains(slot_id):
            # Another process removed the other one at the same time, and one slot is needed.
            store.put(slot_name(slot_id), removed)
            store.commit_barrier()
            raise KeyNeeded(store.url, "this is the last slot; add another slot first")
        store.commit_barrier()

    def _none_remains(self, slot_id: UUID) -> bool:
        """Whether it is not certain that a slot remains besides ``slot_id``.

        A label shows who made a slot, but not that the rest of it is whole: somebody may have put the label
        of a removed slot back with something else. So the slot that was opened counts, and others only if it
        is this one or if the exported key was given.
        """
        names = set(slot_names(self._objects.store))
        if self._opened_by is not None and self._opened_by != slot_id:
            return slot_name(self._opened_by) not in names
        others = (name for name in sorted(names - {slot_name(slot_id)})[:MAX_SLOTS_LISTED])
        # Slots for prunes do not open what is in the repository.
        return not any(slot is not None and not slot.purpose for slot in map(self._own_slot, others))

    def _own_slot(self, name: str) -> KeySlot | None:
        """A slot; None if it is gone, damaged, or was not made with the master key."""
        slot = read_slot(self._objects.store, name)
        if not isinstance(slot, KeySlot) or slot.repository_id != self._objects.repository_id:
            return None
        return None if label_of(self._master_key(), slot) is None else slot

    def _sort(self) -> _Slots:
        """All slots, by what is known of them. A label was made with the master key, and for one slot id."""
        master = self._master_key()
        found = _Slots([], [], [])
        names = slot_names(self._objects.store)[:MAX_SLOTS_LISTED]
        for slot in self._objects.each(lambda name: read_slot(self._objects.store, name), names):
            if isinstance(slot, Damaged):
                found.damaged.append(slot)
            elif slot is not None and slot.repository_id == self._objects.repository_id:
                label = label_of(master, slot)
                if label is not None:
                    found.own.append((slot, label))
                else:
                    what = "it was not made with the key of this repository; `hvps key remove` removes it"
                    found.foreign.append(self._objects.damaged(slot_name(slot.slot_id), what))
        return found

    def export(self) -> ExportedKey:
        """The exported key. Call :meth:`record_export` once it is kept somewhere.

        Raises:
            KeyNeeded: the repository is plain.
        """
        master = self._master_key()
        text = exported_text(master, self._objects.repository_id)
        digest = hashlib.sha256(self._restore_tool()).hexdigest()
        page = printed_page(text, self._objects.repository_id, digest)
        return ExportedKey(Secret(text), Secret(page), digest)

    def record_export(self) -> None:
        """Record that the key was exported, if that is possible; it ends the reminder to export it."""
        try:
            self._objects.append_record(EXPORTS, Kind.EXPORT, ExportMark(datetime.now(UTC)))
            self._objects.store.commit_barrier()
        except StoreError as err:
            # A repository that cannot be written to is when the key may be needed most.
            logger.warning("cannot record that the key was exported: %s", err)

    @property
    def exported(self) -> bool:
        """Whether the key was exported at some time. True for a plain repository."""
        return self._master is None or any(True for _ in self._objects.list(EXPORTS))

    def _master_key(self) -> bytes:
        if self._master is None:
            plain = not self._objects.sealer.sealed
            what = "it is plain, so it has no keys" if plain else "the key that was given is for prunes only"
            raise KeyNeeded(self._objects.store.url, what)
        return self._master

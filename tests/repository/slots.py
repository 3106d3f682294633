"""Key slots in the stores of tests."""

from __future__ import annotations

from hvpsbridge.formats.keyslot import KeySlot
from hvpsbridge.formats.record import decode_record
from hvpsbridge.secret import Secret
from tests.repository.memory_store import MemoryStore

OTHER = Secret("another passphrase")


def slot_names(store: MemoryStore) -> list[str]:
    return [name for name in store.objects if name.startswith("keys/")]


def read_slot(store: MemoryStore, name: str) -> KeySlot:
    return decode_record(KeySlot, store.objects[name])

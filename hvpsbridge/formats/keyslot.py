"""Key slots: the master key, wrapped with a key that Argon2id derives from a passphrase.

A slot is plain canonical JSON, since it is read before there is a key. It shows the Argon2id costs, but not
whose key it is: its label is encrypted. ``check`` distinguishes damage from a wrong passphrase. Everything in
a slot is authenticated together with the wrapped key, so nobody can change a slot unnoticed without its
passphrase. But anyone who can create objects can add slots. Fixed lengths and bounds on costs limit what an
added slot can do, and the master key that a slot yields is confirmed against the settings before it is used
(``repository.unlocking``).

The exported key is text that contains the master key itself, in groups that can be typed from paper, with
check digits that distinguish a typing mistake from a wrong key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.envelope import NONCE_BYTES, TAG_BYTES
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import encode_record

ARGON2ID = "argon2id"
# Slots in tests/golden have the least memory, a MiB; hvps makes slots with 64 MiB and 3 passes.
MIN_MEMORY_KIB = 1024
# A slot that somebody added must take neither all memory nor minutes.
MAX_MEMORY_KIB = 256 * 1024
MAX_ITERATIONS = 64
MAX_LANES = 16
# Four times what the default takes: half a second.
MAX_COST_KIB = 4 * 3 * 64 * 1024
SALT_BYTES = 16
# The master key and the tag. AES-GCM does not commit to its key: a slot with more blocks could open under as
# many guesses of a passphrase as it has blocks (Len, Grubbs, Ristenpart: Partitioning Oracle Attacks, 2021).
WRAPPED_BYTES = 32 + TAG_BYTES
# A slot that opens the metadata only, which is what prunes and collects need.
PRUNE = "prune"
# Metadata root, name key and check key. They are not wrapped by the passphrase itself, for the reason above.
BUNDLE_BYTES = NONCE_BYTES + 3 * 32 + TAG_BYTES
MAX_LABEL_BYTES = 1024
# Largest slot: its fixed fields in JSON take less than a KiB, a label twice its length in hex.
MAX_SLOT_BYTES = 4096

EXPORT_MARK = "hvps-key-1"
_EXPORTED = re.compile(r"hvps-key-1\s+([0-9a-f-]{36})\s+([0-9a-f\s-]+)", re.IGNORECASE)
_CHECK_DIGITS = 8
_KEY_DIGITS = 64
_GROUP = 4


@dataclass(frozen=True, slots=True)
class KdfCost:
    """Argon2id costs. The default is the second recommendation of RFC 9106, for limited memory."""

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    @property
    def total_kib(self) -> int:
        """Memory that is filled in all passes, which the time is proportional to."""
        return self.memory_kib * self.iterations


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySlot:
    """One slot.

    Attributes:
        nonce, wrapped: a key, encrypted with AES-256-GCM; associated data is :meth:`bound_text`. It is the
            master key, or the key of ``bundle``.
        purpose: empty, or :data:`PRUNE`.
        bundle: in a slot for prunes, the keys that these need: nonce, then body with tag.
        label: encrypted with a key derived from the master key: nonce, then body with tag.
        check: SHA-256 of the canonical text without it.
    """

    slot_id: UUID
    repository_id: UUID
    created: datetime
    kdf: str
    memory_kib: int
    iterations: int
    lanes: int
    salt: bytes
    nonce: bytes
    wrapped: bytes = b""
    label: bytes = b""
    check: bytes = b""
    purpose: str = ""
    bundle: bytes = b""

    @property
    def cost(self) -> KdfCost:
        """What it costs to try a passphrase."""
        return KdfCost(self.memory_kib, self.iterations, self.lanes)

    def bound_text(self) -> bytes:
        """The associated data of :attr:`wrapped`."""
        return encode_record(replace(self, wrapped=b"", label=b"", check=b""))

    def digest(self) -> bytes:
        """The correct value of ``check``."""
        return hashlib.sha256(encode_record(replace(self, check=b""))).digest()


@dataclass(frozen=True, slots=True)
class ExportMark:
    """Says that the key was exported; ends the reminder to do so."""

    at: datetime


def check_slot(slot: KeySlot) -> None:
    """Check that the slot is intact, and that its costs and lengths are within bounds.

    Raises:
        Malformed: it is not.
    """
    if slot.digest() != slot.check:
        raise Malformed("its check does not match")
    if slot.kdf != ARGON2ID:
        raise Malformed(f"unknown key derivation {slot.kdf!r}")
    if not (
        MIN_MEMORY_KIB <= slot.memory_kib <= MAX_MEMORY_KIB
        and 0 < slot.iterations <= MAX_ITERATIONS
        and 0 < slot.lanes <= MAX_LANES
        and slot.cost.total_kib <= MAX_COST_KIB
    ):
        raise Malformed("its costs are out of bounds")
    sealed_label = len(slot.label) - NONCE_BYTES - TAG_BYTES
    if (
        len(slot.salt) != SALT_BYTES
        or len(slot.nonce) != NONCE_BYTES
        or len(slot.wrapped) != WRAPPED_BYTES
        or not 0 <= sealed_label <= MAX_LABEL_BYTES
    ):
        raise Malformed("a field has an invalid length")
    if slot.purpose not in ("", PRUNE) or len(slot.bundle) != (BUNDLE_BYTES if slot.purpose else 0):
        raise Malformed("its purpose and its keys do not fit together")


def exported_text(master: bytes, repository_id: UUID) -> str:
    """The exported key: one line, ``hvps-key-1 <repository id> xxxx-xxxx-...``."""
    digits = master.hex() + _export_check(master, repository_id)
    groups = "-".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))
    return f"{EXPORT_MARK} {repository_id} {groups}"


def parse_exported(text: str) -> tuple[bytes, UUID] | None:
    """Master key and repository id of an exported key; None when the text is not an exported key.

    Raises:
        Malformed: it is an exported key with a mistake in it.
    """
    found = _EXPORTED.fullmatch(text.strip())
    if found is None:
        return None
    digits = re.sub(r"[\s-]", "", found[2]).lower()
    if len(digits) != _KEY_DIGITS + _CHECK_DIGITS:
        raise Malformed(f"an exported key has {_KEY_DIGITS + _CHECK_DIGITS} digits, not {len(digits)}")
    try:
        repository_id = UUID(found[1])
    except ValueError as err:
        raise Malformed("the repository id in the exported key is not valid") from err
    master = bytes.fromhex(digits[:_KEY_DIGITS])
    if _export_check(master, repository_id) != digits[_KEY_DIGITS:]:
        raise Malformed("the exported key has a typing mistake: its check digits do not match")
    return master, repository_id


def _export_check(master: bytes, repository_id: UUID) -> str:
    return hashlib.sha256(EXPORT_MARK.encode() + repository_id.bytes + master).hexdigest()[:_CHECK_DIGITS]

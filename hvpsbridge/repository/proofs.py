"""Proofs of points that were made after their manifests: ``restored``, ``boots`` and so on."""

from __future__ import annotations

import logging
from pathlib import Path

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.manifest import Proof, check_proof
from hvpsbridge.formats.marks import LaterProof
from hvpsbridge.repository.layout import PROOFS
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.point_lines import decode_later, encode_later
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.remembered import Remembered

logger = logging.getLogger(__name__)


class Proofs:
    """Reads and records proofs.

    Args:
        objects: the repository.
        folder: where what was read is remembered on this machine; nowhere without one.
    """

    def __init__(self, objects: Objects, folder: Path | None) -> None:
        self._objects = objects
        self._remembered = Remembered(objects, folder, encode_later, decode_later)

    def record(self, point: Point, proof: Proof, slot: str = "") -> None:
        """Record a proof of a committed point, or of the disk in ``slot``."""
        record = LaterProof(point.manifest.digest(), slot, proof)
        self._objects.append_record(f"{PROOFS}/{point.point_id.hex}", Kind.PROOF, record)

    def of(self, point: Point) -> tuple[LaterProof, ...]:
        """Proofs made after the point was committed, oldest first; without those that cannot be read."""
        names = sorted(info.name for info in self._objects.list(f"{PROOFS}/{point.point_id.hex}"))
        digest = point.manifest.digest()
        read = map(self._read, names)
        return tuple(later for later in read if later is not None and later.manifest_digest == digest)

    def all(self) -> dict[bytes, list[LaterProof]]:
        """Proofs of all points by digest of the manifest, oldest first, as :meth:`of`.

        Objects that were not written since they were read on this machine are not read again.
        """
        listed = sorted(self._objects.list(PROOFS), key=lambda info: info.name)
        known = self._remembered.of(listed)
        missing = [info.name for info in listed if info.name not in known]
        read = zip(missing, self._objects.each(self._read, missing), strict=True)
        known |= {name: later for name, later in read if later is not None}
        self._remembered.save(listed, known)
        found: dict[bytes, list[LaterProof]] = {}
        for info in listed:
            if (later := known.get(info.name)) is not None:
                found.setdefault(later.manifest_digest, []).append(later)
        return found

    def _read(self, name: str) -> LaterProof | None:
        try:
            later = self._objects.read_record(LaterProof, name, Kind.PROOF)
            check_proof(later.proof)
        except (ObjectMissing, Damaged, NewerObject) as err:
            logger.error("%s", err)
        except Malformed as err:
            logger.error("%s", self._objects.unreadable(name, err))
        else:
            return later
        return None

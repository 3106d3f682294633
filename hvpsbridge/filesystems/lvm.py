"""Logical volumes of LVM 2, as maps of pieces of disks.

Only the map is made here, from the text in which LVM describes a volume group. libvslvm opens no group of
several physical volumes, nor one with a striped volume; dissect is under the AGPL and lays stripes one after
another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hvpsbridge.filesystems.disks import UnreadableError
from hvpsbridge.filesystems.lvm_metadata import SECTOR, Group, Section, read_label
from hvpsbridge.filesystems.pieces import Piece
from hvpsbridge.formats.readable import Readable

_LINEAR = ("striped", "linear")
# Not listed: they hold what volumes are made of.
_POOLS = ("thin-pool", "cache-pool", "vdo-pool")
# What other types are called; the type is what is before a plus sign (lvm2: lib/metadata/segtype.h).
_KINDS = {
    "mirror": "a mirror",
    "snapshot": "a snapshot",
    "thin": "a thin volume",
    "cache": "a cached volume",
    "writecache": "a volume with a write cache",
    "integrity": "a volume with integrity data",
    "vdo": "a compressed volume (VDO)",
    "error": "a volume with a missing part",
    "zero": "a volume of zeros",
}
_WITHOUT_PLACE = "its LVM metadata has stripes without a place"


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """Where a physical volume is.

    Attributes:
        disk: number of its disk.
        offset: on the disk in bytes.
        data: its bytes.
    """

    disk: int
    offset: int
    data: Readable


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One logical volume.

    Attributes:
        name: GROUP/VOLUME.
        disk: number of the first disk of its group.
        pieces: empty if it is refused.
        refused: why it cannot be read; empty if it can.
    """

    name: str
    disk: int
    pieces: tuple[Piece, ...] = ()
    refused: str = ""


def logical_volumes(physical: Sequence[PhysicalVolume]) -> Iterator[LogicalVolume]:
    """The logical volumes on physical volumes, by group; ``lvm`` is a physical volume that cannot be read.

    Raises:
        UnreadableError: data of a disk is damaged.
    """
    found: dict[str, list[PhysicalVolume]] = {}
    groups: dict[str, Group] = {}
    for each in physical:
        try:
            label = read_label(each.data)
        except UnreadableError as err:
            if err.damaged:
                raise
            yield LogicalVolume("lvm", each.disk, refused=str(err))
            continue
        found.setdefault(label.uuid, []).append(each)
        if label.group is not None:
            identity = label.group.content.text("id")
            known = groups.get(identity)
            if known is None or known.sequence < label.group.sequence:
                groups[identity] = label.group
    names: set[str] = set()
    for identity, group in groups.items():
        # LVM refuses two groups of one name until one is renamed; both are shown here.
        shown = group.name if group.name not in names else f"{group.name}~{identity[:6]}"
        names.add(group.name)
        try:
            yield from _Map(shown, group.content, found).volumes()
        except UnreadableError as err:
            yield LogicalVolume("lvm", 0, refused=f"volume group {shown}: {err}")


class _Map:
    """Maps the volumes of one group."""

    def __init__(self, name: str, content: Section, found: Mapping[str, Sequence[PhysicalVolume]]) -> None:
        self._name = name
        self._extent_bytes = content.number("extent_size") * SECTOR
        self._physical = content.sections("physical_volumes")
        self._logical = content.sections("logical_volumes")
        self._found = found

    def volumes(self) -> Iterator[LogicalVolume]:
        """The volumes that LVM shows; those that others are made of are hidden."""
        there = (self._found.get(_uuid(each), ()) for each in self._physical.values())
        disk = min((volume.disk for volumes in there for volume in volumes), default=0)
        snapshots = self._snapshots()
        for name, content in self._logical.items():
            if _is_pool(content) or ("VISIBLE" not in content.items_of("status") and name not in snapshots):
                continue
            shown = f"{self._name}/{name}"
            try:
                if name in snapshots:
                    raise UnreadableError(snapshots[name])
                yield LogicalVolume(shown, disk, tuple(self._pieces(content)))
            except UnreadableError as err:
                yield LogicalVolume(shown, disk, refused=str(err))

    def _snapshots(self) -> dict[str, str]:
        """Names of volumes whose blocks are not their content, and why."""
        found = {}
        for content in self._logical.values():
            for segment in content.sections().values():
                if segment.text("type") == "snapshot":
                    found[segment.text("cow_store") or segment.text("merging_store")] = _refusal("snapshot")
                    if segment.text("merging_store"):
                        found[segment.text("origin")] = "a snapshot of LVM is being merged into it"
        return found

    def _pieces(self, content: Section) -> Iterator[Piece]:
        at = 0
        for segment in sorted(content.sections().values(), key=lambda each: each.number("start_extent")):
            if segment.number("start_extent") != at:
                raise UnreadableError("its segments of LVM have gaps")
            yield self._piece(segment)
            at += segment.number("extent_count")
        if not at:
            raise UnreadableError("it has no segment of LVM")

    def _piece(self, segment: Section) -> Piece:
        kind = segment.text("type")
        if kind not in _LINEAR:
            raise UnreadableError(_refusal(kind))
        stripes = segment.items_of("stripes")
        if not stripes or len(stripes) != 2 * segment.number("stripe_count"):
            raise UnreadableError(_WITHOUT_PLACE)
        length = segment.number("extent_count") * self._extent_bytes
        places = []
        for name, extent in zip(stripes[::2], stripes[1::2], strict=True):
            volume, offset = self._place(name, extent)
            if offset + length // (len(stripes) // 2) > volume.data.size_bytes:
                raise UnreadableError(f"a part of it is beyond the end of the physical volume {name}")
            places.append((volume.disk, volume.offset + offset))
        return Piece(length, tuple(places), segment.number("stripe_size") * SECTOR if len(places) > 1 else 0)

    def _place(self, name: object, extent: object) -> tuple[PhysicalVolume, int]:
        """A physical volume, and where an extent of it begins on it."""
        if not isinstance(name, str) or not isinstance(extent, int) or extent < 0:
            raise UnreadableError(_WITHOUT_PLACE)
        if name in self._logical:
            raise UnreadableError("LVM is moving it, or builds it from other volumes (pvmove)")
        content = self._physical.get(name)
        found = self._found.get(_uuid(content), ()) if content is not None else ()
        if content is None or not found:
            device = f" ({content.text('device')})" if content is not None and content.text("device") else ""
            raise UnreadableError(f"its physical volume {name}{device} is missing")
        if len(found) > 1:
            raise UnreadableError(f"its physical volume {name} is there {len(found)} times")
        if "MISSING" in content.items_of("flags") + content.items_of("status"):
            raise UnreadableError(f"LVM has marked its physical volume {name} as missing")
        (volume,) = found
        return volume, content.number("pe_start") * SECTOR + extent * self._extent_bytes


def _is_pool(content: Section) -> bool:
    return any(each.text("type").partition("+")[0] in _POOLS for each in content.sections().values())


def _uuid(content: Section) -> str:
    return content.text("id").replace("-", "")


def _refusal(kind: str) -> str:
    base = kind.partition("+")[0]
    named = f"a RAID volume ({base})" if base.startswith("raid") else f"a volume of type {base or 'unknown'}"
    return (
        f"it is {_KINDS.get(base, named)} of LVM, which cannot be read here; "
        "serve the disks with `hvps serve` and activate its group"
    )

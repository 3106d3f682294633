"""What a volume holds, by its signature. Only a library reads further."""

from __future__ import annotations

from dataclasses import dataclass

from hvpsbridge.formats.readable import Readable

_PROBED_BYTES = 128 * 1024
LVM = "lvm"
# Incompatible features of ext, at byte 96 of its superblock (Linux: fs/ext4/ext4.h).
_EXT_RECOVER = 0x0004
_EXT_JOURNAL_DEVICE = 0x0008
_EXT_INLINE_DATA = 0x8000
_EXT_ENCRYPT = 0x10000


@dataclass(frozen=True, slots=True)
class Content:
    """What a volume holds.

    Attributes:
        kind: such as ``ext``; empty if unknown.
        refused: why its files cannot be read; empty if they can.
        dirty: its journal has to be replayed.
    """

    kind: str
    refused: str = ""
    dirty: bool = False


# Signature, offset, name.
_SIGNATURES = (
    (b"-FVE-FS-", 3, "bitlocker"),
    (b"NTFS    ", 3, "ntfs"),
    (b"EXFAT   ", 3, "exfat"),
    (b"ReFS\0\0\0\0", 3, "refs"),
    (b"XFSB", 0, "xfs"),
    (b"LUKS\xba\xbe", 0, "luks"),
    *((b"LABELONE", sector * 512, LVM) for sector in range(4)),
    (b"_BHRfS_M", 65600, "btrfs"),
    (b"SWAPSPACE2", 4086, "swap"),
    (b"\xfc\x4e\x2b\xa9", 4096, "md"),
    (b"\xfc\x4e\x2b\xa9", 0, "md"),
    (b"PRIVHEAD", 512 * 6, "ldm"),
    (b"hsqs", 0, "squashfs"),
    (b"\x10\x20\xf5\xf2", 1024, "f2fs"),
)
_REFUSALS = {
    "bitlocker": "BitLocker encrypts it; unlock it in a restored VM",
    "refs": "ReFS cannot be read here; restore the disk and attach it to Windows",
    "luks": "LUKS encrypts it; restore the disk and open it with cryptsetup",
    "btrfs": "btrfs cannot be read here; serve the disk with `hvps serve` and mount it",
    "md": "Linux software RAID (md) cannot be read here; serve the disks and assemble them",
    "ldm": "dynamic disks cannot be read here; restore the disks and attach them to Windows",
    "squashfs": "squashfs cannot be read here; serve the disk with `hvps serve` and mount it",
    "f2fs": "F2FS cannot be read here; serve the disk with `hvps serve` and mount it",
    "swap": "it is swap space",
}

UNKNOWN = "no file system is known there"
DYNAMIC_DISK = Content("ldm", _REFUSALS["ldm"])


def probe(volume: Readable) -> Content:
    """What the volume holds.

    Raises:
        UnreadableError: its first bytes cannot be read.
    """
    head = volume.pread(0, min(_PROBED_BYTES, volume.size_bytes))
    for signature, offset, name in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return Content(name, _REFUSALS.get(name, ""))
    if _is_md_at_end(volume):
        return Content("md", _REFUSALS["md"])
    if head[1080:1082] == b"\x53\xef":
        return _ext(head[1024:2048])
    if head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:87] == b"FAT32"):
        return Content("fat")
    return Content("", UNKNOWN)


def _ext(superblock: bytes) -> Content:
    features = int.from_bytes(superblock[96:100], "little")
    if features & _EXT_JOURNAL_DEVICE:
        return Content("ext", "it is the journal of another file system")
    if features & _EXT_ENCRYPT:
        return Content("ext", "ext4 with encrypted folders cannot be read here; serve the disk and mount it")
    if features & _EXT_INLINE_DATA:
        return Content("ext", "ext4 with inline data cannot be read here; serve the disk and mount it")
    return Content("ext", dirty=bool(features & _EXT_RECOVER))


def _is_md_at_end(volume: Readable) -> bool:
    """Whether there is an md superblock of version 1.0 or 0.90, which are at the end."""
    size = volume.size_bytes
    places = ((size // 512 - 16) & ~7) * 512, (size & ~0xFFFF) - 0x10000
    return any(0 <= place <= size - 4 and volume.pread(place, 4) == b"\xfc\x4e\x2b\xa9" for place in places)

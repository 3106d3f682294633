"""File names from text that may contain anything, such as the names of VMs.

A name made here is one part of a path on every file system that restores go to: it fits into 255 bytes, even
with what a file that is still being written adds, and means nothing special to Windows or to a shell.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from dataclasses import dataclass

# What file systems of Linux take; those of Windows take 255 UTF-16 units, which are never more.
MAX_NAME_BYTES = 255
PART_PREFIX = "."
PART_SUFFIX = ".part"
_MAX_WHOLE_BYTES = MAX_NAME_BYTES - len(PART_PREFIX) - len(PART_SUFFIX)
_DIGEST_DIGITS = 8
# Separators, what Windows refuses, control characters, line separators, changes of direction, and halves of
# surrogate pairs, which no encoding takes.
_UNSAFE = re.compile(
    '[/\\\\<>:"|?*\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]'
)
# What LVM allows in names of groups and volumes (lvm(8), "Valid names").
_LVM_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,127}")
_SLOT = re.compile(r"[a-z]{1,8} [0-9]{1,4}:[0-9]{1,4}")
# Names of devices, with or without a suffix (Windows: "Naming Files, Paths, and Namespaces").
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MappedName:
    """A name that differs from the part of a path it became."""

    name: str
    file_name: str


def path_part(text: str) -> str:
    """Text as one part of a path: never empty, never ``.`` or ``..``, never with a separator.

    The result for a text is always the same. Different texts can have the same result.
    """
    safe = _UNSAFE.sub("_", unicodedata.normalize("NFC", text))
    encoding = sys.getfilesystemencoding()
    encoded = safe.encode(encoding, "replace").decode(encoding)
    part = encoded.replace("?", "_")
    end = len(part.rstrip(". "))
    part = part[:end] + "_" * (len(part) - end)
    if not part or part[0] in "-.~ " or _RESERVED.fullmatch(part):
        part = f"_{part}"
    # Where the file system takes no such letters, all names would look alike.
    return shortened(part, _MAX_WHOLE_BYTES, text, always=encoded != safe)


def shortened(part: str, limit: int, text: str, *, always: bool = False) -> str:
    """A part of a path, cut to ``limit`` bytes; a digest of ``text`` then keeps it apart from others.

    Args:
        always: add the digest to a short one, too.
    """
    if _bytes(part) <= limit and not always:
        return part
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    room = max(limit - _DIGEST_DIGITS - 1, 0)
    cut = part[:room]
    while _bytes(cut) > room:
        cut = cut[:-1]
    return f"{cut}~{digest}"


def hidden_name(name: str) -> str:
    """Name of the file that becomes ``name`` when it is complete; always the same for a name."""
    limit = MAX_NAME_BYTES - len(PART_PREFIX) - len(PART_SUFFIX)
    return f"{PART_PREFIX}{shortened(name, limit, name)}{PART_SUFFIX}"


def _bytes(part: str) -> int:
    try:
        return len(os.fsencode(part))
    except UnicodeEncodeError:
        return len(part.encode(errors="surrogatepass"))


def disk_name(slot: str) -> str:
    """Name of a disk in files and exports, from its slot: ``scsi-0-1``.

    A manifest of a repository without encryption can be forged: its slots can be any text. What is not a slot
    ends with a digest of it, so that it is not another disk's name.
    """
    if _SLOT.fullmatch(slot):
        return slot.replace(" ", "-").replace(":", "-")
    return shortened(path_part(slot), 100, slot, always=True)


def disk_file_name(slot: str, suffix: str) -> str:
    """Name of the file of a disk: ``scsi-0-1.raw``."""
    return f"{disk_name(slot)}.{suffix}"


def logical_volume_name(group: str, volume: str) -> str:
    """Name of a logical volume in files: ``lvm-vg0-root``, with hyphens in names doubled as in /dev/mapper.

    Names come from the disk and can be forged. One that LVM does not allow ends with a digest of both.
    """
    name = "-".join(each.replace("-", "--") for each in ("lvm", group, volume))
    if _LVM_NAME.fullmatch(group) and _LVM_NAME.fullmatch(volume):
        return shortened(name, 200, f"{group}/{volume}")
    return shortened(path_part(name), 200, f"{group}/{volume}", always=True)

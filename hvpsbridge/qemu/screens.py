"""What a screen or the text on a serial line says about how far a guest has come. Pure.

A screen that is not known to be anything else is the system's, so lists here decide what is not: a wrong
entry costs a proof, a missing one makes a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hvpsbridge.qemu.glyphs import UNREADABLE, is_text_mode, lines_of
from hvpsbridge.qemu.picture import Picture


class Stage(StrEnum):
    """How far a guest has come."""

    NOTHING = "nothing"
    FIRMWARE = "firmware"
    LOADER = "boot loader"
    STARTING = "starting"
    FAILURE = "failure"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look showed.

    Attributes:
        what: the line or the fact that shows it.
    """

    stage: Stage
    what: str


# What QEMU draws itself.
_NO_SCREEN = re.compile(
    r"Guest has not initialized the display|Guest disabled display|Display output is not active"
)
# Wherever they are: none of these goes away while the guest comes further.
_FAILURES = re.compile(
    r"No bootable device|No bootable option|Operating System not found"
    r"|Missing operating system|Error loading operating system|Invalid partition table"
    r"|Boot Maintenance Manager|UEFI Interactive Shell|^(Shell|grub( rescue)?)>"
    r"|error: no such (partition|device)"
    r"|No DEFAULT or UI configuration|Failed to load (ldlinux|COM32)|Could not find kernel image"
    r"|BOOTMGR (is missing|image is corrupt|is compressed)|NTLDR is missing|An operating system wasn't found"
    r"|Windows failed to start|Your PC (needs to be repaired|ran into a problem)|0xc00000|\*\*\* STOP:"
    r"|Kernel panic|VFS: Unable to mount root|Unable to mount root fs|not syncing"
    r"|\(initramfs\)|Gave up waiting for root|dropping to a shell|Entering emergency mode"
    r"|You are in (emergency|rescue) mode|Give root password for maintenance|Press Enter for maintenance"
    r"|dracut-initqueue.*timeout|dracut:/#|UNEXPECTED INCONSISTENCY|Cannot open access to console",
    re.IGNORECASE,
)
# Menus and their like, which clear the screen.
_LOADERS = re.compile(
    r"GNU GRUB|Windows Boot Manager|Choose an operating system|Windows Error Recovery"
    r"|Use the .* keys to select|Press \[Tab\] to edit|Automatic boot in|Boot in \d+ s",
    re.IGNORECASE,
)
# As the last line: others scroll up, and the next stage goes on below.
_LAST_FIRMWARE = re.compile(
    r"^(SeaBIOS|iPXE|Booting from|Machine UUID|Press ESC for boot menu|Boot failed|BdsDxe|Start boot option"
    r"|TianoCore|Press .* to enter|>>Start|gpxe)",
    re.IGNORECASE,
)
_LAST_LOADER = re.compile(
    r"^(ISOLINUX|SYSLINUX|EXTLINUX|PXELINUX|LILO|GRUB|boot:|Welcome to GRUB|Loading |Booting "
    r"|Starting (Windows|cmain|Linux)|EFI stub|Decompressing|Probing EDD|early console|Press any key)"
    r"|\.\.\. ?ok$|^Boot: ",
    re.IGNORECASE,
)
_LAST_STARTING = re.compile(
    r"A start job is running|^Begin: |^Loading, please wait|^done\.$|^Starting version|^Welcome to "
    r"|^Please wait|^dracut: |^systemd\[\d|^/dev/\S+: (clean|recovering)|fsck",
    re.IGNORECASE,
)
_KERNEL_LOG = re.compile(r"^(<\d>)?\[ *\d+\.\d{6}\]")
# Of Windows when it stops, and of pages that ask what to do then; other systems may have it for a while.
_STOP_COLOURS = ((0, 120, 215), (0, 0, 128), (0, 0, 168), (0, 0, 170))
_STOP_DISTANCE = 16
_STOP_SHARE = 0.6
# A logo on black, a bar of progress.
_EMPTY_SHARE = 0.97
_MIN_CELLS = 8
_READABLE_SHARE = 0.7


def look_at(picture: Picture) -> Seen:
    """What a screenshot shows."""
    colour, share = picture.main_colour()
    lines = [line.strip() for line in lines_of(picture)]
    cells = "".join(lines).replace(" ", "")
    unreadable = cells.count(UNREADABLE)
    if len(cells) >= _MIN_CELLS and unreadable <= (1 - _READABLE_SHARE) * len(cells):
        return read(lines)
    if not is_text_mode(picture):
        near = any(
            max(abs(is_ - stop) for is_, stop in zip(colour, known, strict=True)) <= _STOP_DISTANCE
            for known in _STOP_COLOURS
        )
        if near and share >= _STOP_SHARE:
            return Seen(Stage.FAILURE, "a blue screen, as Windows has when it stops")
        if share >= _EMPTY_SHARE:
            return Seen(Stage.NOTHING, "a screen of almost one colour")
        return Seen(Stage.SYSTEM, "a picture")
    if unreadable >= _MIN_CELLS:
        # Firmware and loaders use the font of the firmware.
        return Seen(Stage.SYSTEM, "text in a font that the system loaded")
    return Seen(Stage.NOTHING, "an empty screen")


def read(lines: Sequence[str]) -> Seen:
    """What lines of text show, the newest last."""
    # A cursor that blinks is not text.
    full = [text for line in lines if (text := line.strip(f" \t{UNREADABLE}"))]
    if not full:
        return Seen(Stage.NOTHING, "no text")
    if _NO_SCREEN.search(full[0]):
        return Seen(Stage.NOTHING, full[0])
    for line in full:
        if _FAILURES.search(line):
            return Seen(Stage.FAILURE, line)
    for line in full:
        if _LOADERS.search(line):
            return Seen(Stage.LOADER, line)
    own = [line for line in full if not _KERNEL_LOG.match(line)]
    if not own:
        return Seen(Stage.STARTING, full[-1])
    last = own[-1]
    for known, stage in (
        (_LAST_FIRMWARE, Stage.FIRMWARE),
        (_LAST_LOADER, Stage.LOADER),
        (_LAST_STARTING, Stage.STARTING),
    ):
        if known.search(last):
            below_is_kernel = full[-1] is not last
            return Seen(Stage.STARTING, full[-1]) if below_is_kernel else Seen(stage, last)
    return Seen(Stage.SYSTEM, last)

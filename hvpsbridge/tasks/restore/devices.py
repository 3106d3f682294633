"""Block devices of this machine: whether one may be written to as a whole, and writing a disk into it.

A device is never replaced or truncated. It is opened so that the kernel refuses it while it is mounted or
held, and does not mount it while it is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hvpsbridge.errors import ConfigurationError, HvpsError, NoSpace, is_full
from hvpsbridge.units import MIB, size_text

# ioctls of linux/fs.h
_BLKSSZGET = 0x1268
_BLKZEROOUT = 0x127F
_SMALLEST_SECTOR = 512
_ZEROS = bytes(MIB)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Device:
    """A block device that a disk was written into.

    Attributes:
        sector_bytes: its logical sector size.
    """

    size_bytes: int
    sector_bytes: int


@dataclass(frozen=True, slots=True)
class Uses:
    """What uses a device, its partitions, or the disk that it is a partition of.

    Attributes:
        mounts: mount points.
        swaps: devices with swap.
        holders: devices made of it, such as ``dm-0`` or ``md0``.
    """

    mounts: tuple[str, ...] = ()
    swaps: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()


def uses_of(number: int, *, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Uses:
    """What uses the device of this number (``st_rdev``).

    Raises:
        OSError: the kernel does not say.
    """
    folder = Path(os.path.realpath(sys / "dev" / "block" / _text(number), strict=True))
    related = [folder, *(entry for entry in folder.iterdir() if (entry / "partition").is_file())]
    if (folder / "partition").is_file():
        related.append(folder.parent)
    numbers = {(each / "dev").read_text().strip() for each in related}
    return Uses(
        tuple(sorted(_mounts(proc / "self" / "mountinfo", numbers))),
        tuple(sorted(_swaps(proc / "swaps", numbers))),
        tuple(sorted({name for each in related for name in _names(each / "holders")})),
    )


def refusal(uses: Uses, device_bytes: int, disk_bytes: int) -> str | None:
    """Why a disk must not be written into a device, or None."""
    if uses.mounts:
        return f"is mounted on {', '.join(uses.mounts)}; unmount it, or use another device"
    if uses.swaps:
        return f"is used for swap ({', '.join(uses.swaps)}); run swapoff, or use another device"
    if uses.holders:
        return f"is used by {', '.join(uses.holders)}; remove that, or use another device"
    if device_bytes < disk_bytes:
        return f"has {size_text(device_bytes)}, less than the {size_text(disk_bytes)} of the disk"
    return None


def write_all(file: int, offset: int, *pieces: bytes | memoryview) -> None:
    """Write all pieces, one after another from ``offset``; the kernel may take less at a time."""
    views = [memoryview(piece) for piece in pieces]
    while views:
        written = os.pwritev(file, views, offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def is_device(path: Path) -> bool:
    """Whether the path is a block device, or a link to one."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_among_devices(path: Path) -> bool:
    """Whether a file of this path would lie among the devices, in memory; a mistyped device would be one."""
    devices, folder = Path("/dev"), Path(os.path.realpath(path.parent))
    if not folder.is_relative_to(devices):
        return False
    try:
        while not folder.exists():
            folder = folder.parent
        # /dev/shm and the like are file systems of their own.
        return folder.stat().st_dev == devices.stat().st_dev
    except (OSError, ValueError):
        return False


class BlockDevice:
    """A sink that writes a disk into a block device, in place.

    Args:
        path: the device, or a link to one.
        size_bytes: size of the disk; what the device has beyond it is left as it is.

    Attributes:
        device: the device.

    Raises:
        ConfigurationError: it is in use, too small, or cannot be opened.
    """

    found_bytes = 0
    in_place = True

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._written = False
        self._finished = False
        try:
            node = Path(os.path.realpath(path, strict=True))
            # O_EXCL on a device: the kernel refuses it while it is mounted or part of another device.
            self._file = os.open(node, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as err:
            raise self._error(err) from err
        try:
            self.device = self._checked(size_bytes)
        except (OSError, ValueError) as err:
            os.close(self._file)
            raise ConfigurationError(str(path), f"cannot tell whether it is in use: {err}") from err
        except HvpsError:
            os.close(self._file)
            raise

    @property
    def spoiled(self) -> str:
        """What to say about the device if it was not finished; empty if it is as it was."""
        if self._finished or not self._written:
            return ""
        return f"{self.path} was written in part: it holds neither its old content nor the disk"

    def write(self, offset: int, *pieces: bytes | memoryview) -> None:
        """Write pieces one after another from ``offset``."""
        self._written = True
        try:
            write_all(self._file, offset, *pieces)
        except OSError as err:
            raise self._error(err) from err

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        self._written = True
        if offset % _SMALLEST_SECTOR == length % _SMALLEST_SECTOR == 0:
            with suppress(OSError):  # not every device can
                fcntl.ioctl(self._file, _BLKZEROOUT, struct.pack("=QQ", offset, length))
                return
        while length:
            count = min(length, len(_ZEROS))
            self.write(offset, memoryview(_ZEROS)[:count])
            offset, length = offset + count, length - count

    def finish(self) -> None:
        """Wait until the device has everything."""
        try:
            os.fsync(self._file)
        except OSError as err:
            raise self._error(err) from err
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _checked(self, size_bytes: int) -> Device:
        found = os.fstat(self._file)
        if not stat.S_ISBLK(found.st_mode):
            raise ConfigurationError(str(self.path), "is not a block device any more")
        device_bytes = os.lseek(self._file, 0, os.SEEK_END)
        if reason := refusal(uses_of(found.st_rdev), device_bytes, size_bytes):
            raise ConfigurationError(str(self.path), reason)
        sector = struct.unpack("=i", fcntl.ioctl(self._file, _BLKSSZGET, bytes(4)))[0]
        return Device(device_bytes, int(sector))

    def _error(self, err: OSError) -> HvpsError:
        if err.errno == errno.EBUSY:
            return ConfigurationError(
                str(self.path), f"is in use{self._used_by()}; free it, or use another device"
            )
        text = err.strerror or str(err)
        if is_full(err):
            return NoSpace(str(self.path.parent), "write", self.path.name, text)
        return ConfigurationError(str(self.path), text)

    def _used_by(self) -> str:
        with suppress(OSError, ValueError):
            uses = uses_of(self.path.stat().st_rdev)
            if names := (*uses.mounts, *uses.swaps, *uses.holders):
                return f" ({', '.join(names)})"
        return ""


def _text(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"


def _mounts(path: Path, numbers: set[str]) -> Iterator[str]:
    for line in path.read_text(errors="surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        words, source = fields.split(" "), rest.split(" ")[1:2]
        # Btrfs has a number of its own for each file system; its source is the device.
        if words[2] in numbers or (source and _number(_plain(source[0])) in numbers):
            yield _plain(words[4])


def _swaps(path: Path, numbers: set[str]) -> Iterator[str]:
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()[1:]
    except FileNotFoundError:
        return  # a kernel without swap
    for line in lines:
        name = _plain(line.split(" ")[0].split("\t")[0])
        if _number(name) in numbers:
            yield name


def _number(name: str) -> str | None:
    try:
        found = os.stat(name) if name.startswith("/") else None  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return _text(found.st_rdev) if found is not None and stat.S_ISBLK(found.st_mode) else None


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []

"""Whether the file systems of a recovery point open, and a sample of their files can be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.filesystems.signatures import UNKNOWN
from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.files.point_files import PointFiles, address, open_point
from hvpsbridge.tasks.proofs import record_proof

# Of each volume. A file's first bytes show that its content is found; all of it is what `hashed` is for.
_FOLDERS = 50
_FILES = 50
_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableCheck:
    """What could be read of a point.

    Attributes:
        volumes: DISK:PARTITION of each file system that opened and whose sample was read.
        files: how many files were read.
        read_bytes: of them.
        not_shown: volumes and files that could not be read, with the reason. That does not mean damage.
    """

    point_id: UUID
    volumes: tuple[str, ...]
    files: int
    read_bytes: int
    not_shown: tuple[str, ...]

    @property
    def shown(self) -> bool:
        """Whether there is a file system, and all of the sample was read."""
        return bool(self.volumes) and not self.not_shown


def check_readable(repository: Repository, point: Point) -> ReadableCheck:
    """Open the file systems of a point, and read a sample of files.

    Raises:
        MachineError: the libraries are not installed.
        Damaged: data that this needs is damaged.
    """
    sample = _Sample()
    with open_point(repository, point) as opened:
        for index, volume in enumerate(opened.volumes):
            if volume.refused == UNKNOWN or (volume.content in ("swap", "lvm") and volume.name != "lvm"):
                continue  # no file system, or one that is listed as a logical volume
            try:
                sample.read(opened, index)
            except FilesUnreadable as err:
                sample.not_shown.append(f"volume {address(volume)}: {err.what}")
            else:
                sample.volumes.append(address(volume))
    if not sample.volumes and not sample.not_shown:
        sample.not_shown.append("no file system was found")
    return ReadableCheck(
        point_id=point.point_id,
        volumes=tuple(sample.volumes),
        files=sample.files,
        read_bytes=sample.read_bytes,
        not_shown=tuple(sample.not_shown),
    )


def record_readable(repository: Repository, point: Point, check: ReadableCheck, run_id: UUID) -> str | None:
    """Keep the proof with the point; why that failed, None if it did not or nothing was shown."""
    if not check.shown:
        return None
    return record_proof(repository, point, "readable", check.read_bytes, run_id)


class _Sample:
    """The files of one point that are read."""

    def __init__(self) -> None:
        self.volumes: list[str] = []
        self.not_shown: list[str] = []
        self.files = 0
        self.read_bytes = 0

    def read(self, opened: PointFiles, volume: int) -> None:
        """Read the sample of one volume."""
        opened.files.open(volume)
        where = address(opened.volumes[volume])
        root = opened.entry(volume, b"/")
        for entry in _sampled(opened, volume, root):
            try:
                self._read_file(opened, volume, entry)
            except FilesUnreadable as err:
                self.not_shown.append(f"file {err.name} on volume {where}: {err.what}")

    def _read_file(self, opened: PointFiles, volume: int, entry: Entry) -> None:
        count = 0
        for part in opened.files.read(volume, entry, _FILE_BYTES):
            count += part if isinstance(part, int) else len(part)
        self.files += 1
        self.read_bytes += count


def _sampled(opened: PointFiles, volume: int, root: Entry) -> Iterator[Entry]:
    """Some files, of the upper folders first."""
    pending, files = deque([root]), 0
    for _ in range(_FOLDERS):
        if not pending:
            return
        for entry in opened.files.children(volume, pending.popleft()):
            if entry.kind is FileKind.FOLDER:
                pending.append(entry)
            elif entry.kind is FileKind.FILE and not entry.refused:
                yield entry
                files += 1
                if files == _FILES:
                    return

"""Reads files out of disks through a child process that parses them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvpsbridge.errors import FilesUnreadable, HvpsError, MachineError
from hvpsbridge.filesystems import wire
from hvpsbridge.filesystems.model import Entry, FileKind, Volume
from hvpsbridge.filesystems.pieces import PiecedVolume
from hvpsbridge.filesystems.tools import LocalTools
from hvpsbridge.formats.readable import Readable

logger = logging.getLogger(__name__)

_LIBRARIES = ("pytsk3", "pyfsntfs", "pyfsxfs", "pyfsfat")
_PROGRAM = ("-m", "hvpsbridge.filesystems.worker")
# Without a message: a library that loops must not hold a command forever.
_SILENCE_SECONDS = 300.0
_DEEPEST = 4096
# Of a list of entries in memory; longer ones are in a temporary file.
_KEPT_BYTES = 4 << 20
# What the child may ask for while it answers.
_SERVED = (wire.WANT, wire.FILE, wire.TOOL)

OnUnreadable = Callable[[FilesUnreadable], None]


@dataclass(frozen=True, slots=True)
class _Above:
    """A folder, and those that it is in."""

    depth: int
    key: int
    parent: _Above | None

    def has(self, key: int) -> bool:
        """Whether the folder of that key is among them."""
        current: _Above | None = self
        while current is not None:
            if current.key == key:
                return True
            current = current.parent
        return False


class DiskFiles:
    """Volumes and files of disks. One thread at a time; close it, or use it in ``with``.

    Attributes:
        read_bytes: of the disks, so far.
    """

    def __init__(self, disks: Sequence[Readable], sector_bytes: Sequence[int]) -> None:
        missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            raise MachineError(f"reading files needs {', '.join(missing)}", "install hvpsbridge[files]")
        self._disks = disks
        self._sector_bytes = sector_bytes
        self._failure: HvpsError | None = None
        self.read_bytes = 0
        self._tools = LocalTools()
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(_SILENCE_SECONDS)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-I", *_PROGRAM, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"TZ": "UTC", "LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._connection.close()
        self._child.kill()
        self._child.wait()
        self._tools.close()

    def volumes(self) -> tuple[Volume, ...]:
        """All volumes of the disks. Call this before anything else.

        Raises:
            FilesUnreadable: a partition table or a volume group cannot be read.
            Damaged: a part of a disk that is needed for this.
        """
        sizes = [disk.size_bytes for disk in self._disks]
        request = {"do": "volumes", "sizes": sizes, "sector_bytes": list(self._sector_bytes)}
        found = tuple(wire.volume_from(payload) for _, payload in self._ask(request))
        if not self.is_confined:
            logger.debug("file systems are parsed without a filter of system calls: the kernel has none")
        return found

    @property
    def is_confined(self) -> bool:
        """Whether the kernel filters the calls of the child, which it does once the child has answered."""
        try:
            status = Path(f"/proc/{self._child.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return False
        return "\nSeccomp:\t2\n" in status

    def content(self, volume: int) -> PiecedVolume:
        """The bytes of a volume, which can be read after this object is closed.

        Raises:
            FilesUnreadable: they are not on the disks.
        """
        # The child has parsed what may be hostile, so what it says is checked.
        request = {"do": "pieces", "volume": volume}
        try:
            pieces = [wire.piece_from(payload) for _, payload in self._ask(request)]
            return PiecedVolume(self._disks, pieces)
        except (ValueError, TypeError, KeyError) as err:
            raise FilesUnreadable(f"volume {volume}", str(err)) from err

    def open(self, volume: int) -> str:
        """Open the file system of a volume; a notice about how current it is, empty if there is none.

        Raises:
            FilesUnreadable: it is refused, or does not open.
        """
        (notice,) = [json.loads(payload) for _, payload in self._ask({"do": "open", "volume": volume})]
        return str(notice)

    def entry(self, volume: int, path: bytes) -> Entry | None:
        """The entry at a path; None if there is none."""
        request = {"do": "entry", "volume": volume, "path": wire.text(path)}
        return next((wire.entry_from(payload) for _, payload in list(self._ask(request))), None)

    def children(self, volume: int, folder: Entry) -> list[Entry]:
        """Entries of a folder."""
        return [wire.entry_from(payload) for payload in self._children(volume, folder)]

    def _children(self, volume: int, folder: Entry) -> Iterator[bytes]:
        request = {"do": "children", "volume": volume, "entry": wire.entry_values(folder)}
        for _, payload in self._ask(request, shown(folder.path)):
            yield payload

    def walk(self, volume: int, folder: Entry, on_unreadable: OnUnreadable) -> Iterator[Entry]:
        """Everything below a folder; a folder comes before what is in it. Other calls may be made meanwhile.

        Args:
            on_unreadable: called for a folder that cannot be listed.
        """
        pending = [(wire.entry_json(folder), _Above(0, folder.key, None))]
        while pending:
            payload, above = pending.pop()
            current = wire.entry_from(payload)
            folders = []
            # As JSON they take a third of the memory, and a folder may have a million.
            with tempfile.SpooledTemporaryFile(_KEPT_BYTES) as children:
                try:
                    children.writelines(payload + b"\n" for payload in self._children(volume, current))
                except FilesUnreadable as err:
                    on_unreadable(err)
                    continue
                children.seek(0)
                for line in children:
                    entry = wire.entry_from(line)
                    yield entry
                    if entry.kind is not FileKind.FOLDER:
                        continue
                    if above.depth >= _DEEPEST or above.has(entry.key):
                        on_unreadable(FilesUnreadable(shown(entry.path), "the folder contains itself"))
                    else:
                        folders.append((line, _Above(above.depth + 1, entry.key, above)))
            pending += reversed(folders)

    def read(self, volume: int, entry: Entry, limit: int | None = None) -> Iterator[bytes | int]:
        """The content of a file: bytes, and counts of zeros.

        Args:
            limit: bytes to read; all without it.

        Raises:
            FilesUnreadable: it is refused, or cannot be read.
            Damaged: the repository's data of it.
        """
        if entry.refused:
            raise FilesUnreadable(shown(entry.path), entry.refused)
        request = {"do": "read", "volume": volume, "entry": wire.entry_values(entry), "limit": limit}
        for letter, payload in self._ask(request, shown(entry.path)):
            yield wire.COUNT.unpack(payload)[0] if letter == wire.ZEROS else payload

    def _ask(self, request: dict[str, Any], what: str = "") -> Iterator[tuple[bytes, bytes]]:
        self._failure = None
        try:
            wire.send(self._connection, wire.REQUEST, json.dumps(request).encode())
            while True:
                letter, payload = wire.receive(self._connection)
                if letter in _SERVED:
                    self._serve(letter, payload)
                elif letter == wire.END:
                    break
                elif letter == wire.FAILED:
                    raise self._failed(what, json.loads(payload))
                else:
                    yield letter, payload
        except GeneratorExit:
            self._drain()
            raise
        except (EOFError, ConnectionError, TimeoutError) as err:
            raise FilesUnreadable(
                what or "file system", f"the process that parses it ended ({type(err).__name__})"
            ) from err
        if self._failure is not None:
            raise self._failure  # a library passed over it

    def _drain(self) -> None:
        """Read the rest of an answer that nobody wants, so that the next request gets its own."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                letter, payload = wire.receive(self._connection)
                if letter in _SERVED:
                    self._serve(letter, payload)
                elif letter in (wire.END, wire.FAILED):
                    return

    def _serve(self, letter: bytes, payload: bytes) -> None:
        try:
            if letter == wire.WANT:
                self._read(*wire.READ.unpack(payload))
            elif letter == wire.FILE:
                file = self._tools.file()
                wire.send(self._connection, wire.NEW_FILE, wire.COUNT.pack(file.number))
                socket.send_fds(self._connection, [b"\0"], [file.descriptor])
            else:
                ran = self._tools.run(*json.loads(payload))
                wire.send(self._connection, wire.RAN, json.dumps(asdict(ran)).encode())
        except (LookupError, ValueError, TypeError, struct.error) as err:
            # What it parses may have taken it over.
            raise FilesUnreadable(
                "file system", "the process that parses it asked for something that is not there"
            ) from err
        except OSError as err:
            wire.send(self._connection, wire.TOOL_FAILED, str(err)[:300].encode())

    def _read(self, disk: int, offset: int, length: int) -> None:
        try:
            data = self._disks[disk].pread(offset, min(length, wire.MAX_READ))
        except HvpsError as err:
            self._failure = self._failure or err
            wire.send(self._connection, wire.READ_FAILED, err.describe()[:300].encode())
            return
        self.read_bytes += len(data)
        wire.send(self._connection, wire.DATA, data)

    def _failed(self, what: str, answer: dict[str, Any]) -> HvpsError:
        if self._failure is not None:
            return self._failure
        return FilesUnreadable(what or "file system", str(answer["what"]))


def shown(path: bytes) -> str:
    """A path as text for people."""
    return path.decode("utf-8", "backslashreplace")

"""What was read of small objects before, remembered on this machine, so that a list need not read them all.

An object that is listed with the size and the stamp that it had then has not been written since. Whether its
bytes still are what was written is found by ``verify``, and when the object is read. In an encrypted
repository the file is encrypted with the repository's key.
"""

from __future__ import annotations

import contextlib
import json
import logging
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from hvpsbridge.errors import HvpsError
from hvpsbridge.files import FOLDER_MODE
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.base import ObjectInfo

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Raised when values get other fields.
VERSION = 1
# In one envelope. A value takes some 300 bytes, and a payload may have 8 MiB.
VALUES_IN_PART = 5000
_LENGTH = struct.Struct("<I")
# What comes of a file that hvps did not write.
_ROTTEN = (ValueError, TypeError, KeyError, IndexError, struct.error, HvpsError)


class Remembered(Generic[T]):
    """Values of objects by name. What one of several processes adds may get lost, and is read again.

    Args:
        objects: of the repository.
        path: the file; None to remember nothing.
        encode: a value as JSON.
        decode: the value of that JSON.
    """

    def __init__(
        self,
        objects: Objects,
        path: Path | None,
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
    ) -> None:
        self._objects = objects
        self._path = path
        self._encode = encode
        self._decode = decode
        self._known: dict[str, tuple[int, str, T]] | None = None

    def of(self, infos: Iterable[ObjectInfo]) -> dict[str, T]:
        """Values of the listed objects that are remembered, by name."""
        known = self._load()
        return {
            info.name: found[2]
            for info in infos
            if (found := known.get(info.name)) is not None and found[:2] == (info.size_bytes, info.stamp)
        }

    def save(self, infos: Sequence[ObjectInfo], values: Mapping[str, T]) -> None:
        """Remember these values of listed objects, and no others, if that is possible.

        Objects without a stamp are left out: whether they have been written since cannot be seen.
        """
        kept = {
            info.name: (info.size_bytes, info.stamp, values[info.name])
            for info in infos
            if info.stamp and info.name in values
        }
        before = self._load()
        if self._path is None or (kept.keys() == before.keys() and self._same(kept, before)):
            return
        self._known = kept
        rows = [[name, size, stamp, self._encode(value)] for name, (size, stamp, value) in kept.items()]
        try:
            parts = [
                self._sealed(number, rows[at : at + VALUES_IN_PART])
                for number, at in enumerate(range(0, len(rows), VALUES_IN_PART))
            ]
            _replace(self._path, b"".join(parts))
        except (OSError, HvpsError) as err:
            logger.debug("cannot write %s: %s", self._path, err)

    @staticmethod
    def _same(kept: Mapping[str, tuple[int, str, T]], before: Mapping[str, tuple[int, str, T]]) -> bool:
        return all(kept[name][:2] == before[name][:2] for name in kept)

    def _load(self) -> dict[str, tuple[int, str, T]]:
        if self._known is None:
            self._known = {}
            try:
                self._known = dict(self._read())
            except FileNotFoundError:
                pass
            except (OSError, *_ROTTEN) as err:
                logger.debug("cannot use %s: %s", self._path, err)
        return self._known

    def _read(self) -> Iterable[tuple[str, tuple[int, str, T]]]:
        data = b"" if self._path is None else self._path.read_bytes()
        found, at, number = [], 0, 0
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            part = self._objects.open(self._place(number), Kind.REPORT, data[at : at + length])
            content = json.loads(part)
            if content["version"] == VERSION:
                found += [
                    (name, (size, stamp, self._decode(value))) for name, size, stamp, value in content["rows"]
                ]
            at, number = at + length, number + 1
        return found

    def _sealed(self, number: int, rows: Sequence[Any]) -> bytes:
        text = json.dumps({"version": VERSION, "rows": rows}, separators=(",", ":")).encode()
        sealed = self._objects.envelope(self._place(number), Kind.REPORT, text)
        return _LENGTH.pack(len(sealed)) + sealed

    def _place(self, number: int) -> str:
        # No object has such a name.
        return f"remembered/{'' if self._path is None else self._path.name}/{number}"


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

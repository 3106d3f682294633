"""How restored bytes get into files: joined, and flushed while more are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hvpsbridge.errors import NoSpace
from hvpsbridge.tasks.restore import flush
from hvpsbridge.tasks.restore.devices import write_all
from hvpsbridge.tasks.restore.flush import EarlyFlush
from hvpsbridge.tasks.restore.sinks import RawFile


def test_pieces_are_written_whole_when_the_kernel_takes_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)

    def some(descriptor: int, views: list[memoryview], offset: int) -> int:
        return os.pwrite(descriptor, b"".join(views)[:5], offset)

    monkeypatch.setattr(os, "pwritev", some)
    write_all(file, 3, b"abc", b"", memoryview(b"defghijk"), b"l")
    os.close(file)
    assert (tmp_path / "file").read_bytes() == bytes(3) + b"abcdefghijkl"


def test_a_flush_that_fails_is_an_error_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports that written data could not be stored once, so the last flush would not fail."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(flush, "FLUSH_BYTES", 4)
    monkeypatch.setattr(os, "fdatasync", full)
    with RawFile(tmp_path / "disk.raw", 100, 8) as sink:
        sink.write(0, b"abcd")
        with pytest.raises(NoSpace):
            sink.finish()
    assert not list(tmp_path.iterdir())


def test_files_are_flushed_while_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(flush, "FLUSH_BYTES", 4)
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    early = EarlyFlush(7)
    for _ in range(3):
        early.wrote(3)
        early.finish()
    early.close()
    assert flushed == [7]

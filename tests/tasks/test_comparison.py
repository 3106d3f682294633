"""Which entries of two file systems differ."""

from __future__ import annotations

import sqlite3

import pytest

from hvpsbridge.errors import MachineError
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.tasks.files import comparison
from hvpsbridge.tasks.files.comparison import Change, ChangedFile, ChangedFiles


def entry(path: bytes, size: int = 1, kind: FileKind = FileKind.FILE, **changes: object) -> Entry:
    return Entry(path=path, kind=kind, size_bytes=size, key=1, **changes)  # type: ignore[arg-type]  # by keyword


def test_added_removed_and_changed_entries_come_by_path() -> None:
    before = [entry(b"/same"), entry(b"/gone", 7), entry(b"/\xe4", 1), entry(b"/mode", mode=0o600)]
    after = [entry(b"/mode", mode=0o644), entry(b"/\xe4", 2), entry(b"/new", 2**64), entry(b"/same")]
    found = ChangedFiles(iter(before), iter(after))
    wanted = [
        ChangedFile(Change.REMOVED, b"/gone", 7),
        ChangedFile(Change.CHANGED, b"/mode", 1),
        ChangedFile(Change.ADDED, b"/new", 2**64),
        ChangedFile(Change.CHANGED, b"/\xe4", 2),
    ]
    assert list(found) == wanted
    assert (list(found), len(found)) == (wanted, 4)
    assert (list(ChangedFiles()), len(ChangedFiles())) == ([], 0)


def test_the_size_and_time_of_a_folder_are_not_compared() -> None:
    before = entry(b"/folder", 1, FileKind.FOLDER, modified_ns=1)
    after = entry(b"/folder", 2, FileKind.FOLDER, modified_ns=2)
    assert not len(ChangedFiles([before], [after]))
    assert len(ChangedFiles([before], [entry(b"/folder", 1, FileKind.FILE)])) == 1


def test_a_name_that_is_there_twice_is_compared_once() -> None:
    assert not len(ChangedFiles([entry(b"/a", 1), entry(b"/a", 2)], [entry(b"/a", 1), entry(b"/a", 2)]))


def test_no_space_for_the_temporary_file_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: str) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(comparison.sqlite3, "connect", full)
    with pytest.raises(MachineError, match="temporary file: database or disk is full"):
        ChangedFiles()

"""Answers in pages end, get ahead, and are kept within a bound."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from hvpsbridge.contract.readings import DigestPage, ExtentPage, FilePiece
from hvpsbridge.errors import ProtocolViolation
from hvpsbridge.formats.extents import Extent, pack_extents, subtract
from hvpsbridge.host import paged
from hvpsbridge.host.runner import OperationRunner
from hvpsbridge.units import GIB, KIB, MIB, TIB


class Answering(OperationRunner):
    """Answers each call with what ``answer`` makes of its parameters."""

    def __init__(self, answer: Callable[[dict[str, Any]], Iterator[object]]) -> None:
        super().__init__(SimpleNamespace(name="HV01"), SimpleNamespace(lost=False), None)  # type: ignore[arg-type]
        self._answer = answer

    def run(self, name: str, **parameters: object) -> Generator[Any, None, None]:
        yield from self._answer(parameters)


def test_pages_of_one_byte_are_no_progress() -> None:
    runner = Answering(lambda given: iter([ExtentPage(given["OffsetBytes"], 1, None)]))
    with pytest.raises(ProtocolViolation, match="1001 pages"):
        paged.changes(runner, "C:\\a.vhdx", "rct", 62 * TIB)


def test_empty_pages_of_an_allocation_end() -> None:
    runner = Answering(lambda given: itertools.repeat(ExtentPage(0, 0, None)))
    with pytest.raises(ProtocolViolation, match="1001 pages"):
        paged.allocation(runner, ("C:\\a.vhdx",), GIB)


def test_full_pages_of_three_ranges_each_are_progress() -> None:
    def answer(given: dict[str, Any]) -> Iterator[ExtentPage]:
        start = given["OffsetBytes"]
        ranges = [Extent(start + at * KIB, 512) for at in range(3)]
        yield ExtentPage(start, 3 * KIB, pack_extents(ranges))

    found = paged.changes(Answering(answer), "C:\\a.vhdx", "rct", 12_000 * KIB)
    assert len(found) == 12_000


def test_too_many_changes_are_covered_by_fewer_extents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged, "MAX_EXTENTS", 5000)
    pages, in_page, step = 10, 4096, 16 * KIB
    sent = [[Extent((page * in_page + at) * step, 512) for at in range(in_page)] for page in range(pages)]

    def answer(given: dict[str, Any]) -> Iterator[ExtentPage]:
        for number, page in enumerate(sent):
            yield ExtentPage(number * in_page * step, in_page * step, pack_extents(page))

    found = paged.allocation(Answering(answer), ("C:\\a.vhdx",), pages * in_page * step)
    assert len(found) <= 5000
    assert subtract([extent for page in sent for extent in page], found) == ()


@pytest.mark.parametrize("count", [0, 2])
def test_digests_bring_what_was_asked_and_not_nothing(count: int) -> None:
    runner = Answering(lambda given: iter([DigestPage(0, bytes(32 * count))]))
    with pytest.raises(ProtocolViolation, match="bytes of digests"):
        list(paged.digests(runner, "C:\\a.vhdx", MIB, 0, MIB))


def piece(path: str, size: int, offset: int, data: bytes) -> FilePiece:
    return FilePiece(
        path=path,
        name=path,
        size_bytes=size,
        offset_bytes=offset,
        sha256=hashlib.sha256(data).hexdigest(),
        data=data or None,
    )


def endless_files(given: dict[str, Any]) -> Iterator[FilePiece]:
    for number in itertools.count():
        yield piece(f"C:\\{number}.vmcx", 1, 0, b"x")


def pieces_of_one_byte(given: dict[str, Any]) -> Iterator[FilePiece]:
    for offset in itertools.count():
        yield piece("C:\\a.vmcx", GIB, offset, b"x")


def pieces_of_nothing(given: dict[str, Any]) -> Iterator[FilePiece]:
    while True:
        yield piece("C:\\a.vmcx", GIB, 0, b"")


@pytest.mark.parametrize("answer", [endless_files, pieces_of_one_byte, pieces_of_nothing])
def test_configuration_files_without_end_are_refused(
    answer: Callable[[dict[str, Any]], Iterator[FilePiece]],
) -> None:
    with pytest.raises(ProtocolViolation, match="too little"):
        list(paged.configuration(Answering(answer), UUID(int=1), UUID(int=2)))

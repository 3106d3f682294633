"""Messages of a host are joined within a bound; what nobody reads is dropped unread."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from uuid import uuid4

import pytest
from pypsrp.messages import MessageType, PipelineInput

from hvpsbridge.host.psrp.fragments import BoundedFragmenter, input_fragments
from hvpsbridge.host.psrp.replies import Assembler, BrokenStream, MessageTooLong, block_message_bound
from hvpsbridge.host.psrp.strings import TextSerializer
from hvpsbridge.units import MIB


def fragment(data: bytes, *, number: int = 1, index: int = 0, flags: int = 3) -> bytes:
    return struct.pack(">QQBI", number, index, flags, len(data)) + data


def message(body: bytes, kind: int = MessageType.PIPELINE_OUTPUT) -> bytes:
    return struct.pack("<II", 1, kind) + bytes(32) + body


def reader() -> BoundedFragmenter:
    return BoundedFragmenter(100_000, TextSerializer())


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_message_in_any_number_of_fragments_is_joined(size: int) -> None:
    whole = message(b"<S>hello</S>")
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    made = reader()
    found = []
    for index, part in enumerate(parts):
        flags = (index == 0) + 2 * (index == len(parts) - 1)
        found += made.defragment(fragment(part, index=index, flags=flags))
    assert [one.data.data for one in found] == ["hello"]


def test_a_message_that_comes_again_is_read_once() -> None:
    made, whole = reader(), message(b"<S>hello</S>")
    twice = fragment(whole[:9], number=7, flags=1) + fragment(whole[9:], number=7, index=1, flags=2)
    assert [one.data.data for one in made.defragment(twice + twice)] == ["hello"]
    assert made.defragment(twice) == []
    # Only the very same one: what differs is for others to judge.
    assert [one.data.data for one in made.defragment(fragment(whole, number=8))] == ["hello"]
    other = fragment(message(b"<S>other</S>"), number=7)
    assert [one.data.data for one in made.defragment(other)] == ["other"]


def go_on(feed: Callable[[bytes], object], size: int) -> None:
    for index in range(1, 1_000_000):
        feed(fragment(bytes(size), index=index, flags=0))


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_message_without_an_end_is_ended(size: int) -> None:
    made, assembler = reader(), Assembler(block_message_bound(64 * 1024))
    if not size:  # fragments without content count as well
        made.max_message_bytes = 10_000
    tracemalloc.start()
    try:
        for feed in (made.defragment, assembler.feed):
            feed(fragment(bytes(size), flags=1))
            with pytest.raises(MessageTooLong):
                go_on(feed, size)
        assert tracemalloc.get_traced_memory()[1] < 60 * MIB
    finally:
        tracemalloc.stop()


def test_messages_that_were_begun_and_left_are_forgotten() -> None:
    made = reader()
    for number in range(2000):
        made.defragment(fragment(bytes(100_000), number=number, flags=1))
    assert sum(len(held) for _, held in made._incomplete.values()) <= made.max_message_bytes
    assert len(made._incomplete) <= 16


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        fragment(b"")[:-1],
        fragment(b"abc")[:-1],
        fragment(b"abc", index=1),
        fragment(b"abc", flags=2),
        fragment(b"abc", flags=0),
        fragment(b"abc"),
        fragment(b"a", flags=1) + fragment(b"b", flags=1),
    ],
)
def test_fragments_that_do_not_follow_are_refused(data: bytes) -> None:
    with pytest.raises(BrokenStream):
        reader().defragment(data)


@pytest.mark.parametrize(
    "kind",
    [
        MessageType.DEBUG_RECORD,
        MessageType.VERBOSE_RECORD,
        MessageType.WARNING_RECORD,
        MessageType.PROGRESS_RECORD,
        MessageType.INFORMATION_RECORD,
        MessageType.PIPELINE_HOST_CALL,
    ],
)
def test_what_nobody_reads_is_dropped_unread(kind: int) -> None:
    assert reader().defragment(fragment(message(b"<not even XML", kind))) == []


NEST = b'<Obj RefId="0"><MS>'


@pytest.mark.parametrize(
    "body",
    [
        NEST * 3000,
        NEST * 15 + b"<S>" + b"x" * MIB + b"</S>" + b"</MS></Obj>" * 15,
        b'<Obj RefId="0"><MS>' + b'<S N="a"/>' * 100_000 + b"</MS></Obj>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><S>&b;</S>',
    ],
    ids=["depth", "copies", "elements", "entities"],
)
def test_clixml_that_costs_more_than_its_bytes_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"XML"):
        reader().defragment(fragment(message(body)))


@pytest.mark.parametrize("size", [1, 700, 5000])
def test_input_is_what_pypsrp_would_send(size: int) -> None:
    pool, pipeline = str(uuid4()), str(uuid4())
    ours, theirs = (BoundedFragmenter(1000, TextSerializer()) for _ in range(2))
    data = bytes(range(256)) * (size // 256 + 1)
    for part in (data[:size], data[1 : size + 1]):
        made = theirs.fragment(PipelineInput(data=part), pool, pipeline)
        assert list(input_fragments(ours, part, pool, pipeline)) == made

"""Blocks are found in replies however these are split; everything else is passed on whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.host.psrp.http import Body
from hvpsbridge.host.psrp.replies import (
    Assembler,
    BrokenStream,
    Message,
    UnknownReply,
    ends_command,
    read_reply,
)
from tests.host.replies import OUTPUT, STATE, block_clixml, fragments, message, reply, state_clixml

BLOCK = random.Random(7).randbytes(100_000)
MESSAGE = message(OUTPUT, block_clixml(BLOCK))


def streams(body: bytes) -> list[bytes]:
    return read_reply(Body(body))


def assemble(streams: list[bytes]) -> list[bytes | Message]:
    assembler = Assembler()
    return [item for stream in streams for item in assembler.feed(stream)]


def test_a_reply_gives_its_streams_and_its_end() -> None:
    body = reply([b"one", b"two"], "uuid:5A", done=True)
    assert streams(body) == [b"one", b"two"]
    assert ends_command(Body(body), b"uuid:5A")
    assert not ends_command(Body(reply([b"one"])), b"uuid:")
    with pytest.raises(BrokenStream):
        ends_command(Body(body), b"uuid:5B")
    assert streams(reply([])) == []
    empty = reply([b"x"]).replace(b"eA==</rsp:Stream>", b"</rsp:Stream>")
    assert streams(empty) == [b""]
    within = b"</rsp:Stream>" + body + b"CommandState/Done"
    assert read_reply(Body(bytearray(within), 13, 13 + len(body))) == [b"one", b"two"]
    assert not ends_command(Body(b"CommandState/Done<a/>CommandState/Done", 17, 21), b"a")


def test_an_empty_stream_element_that_ends_the_command_is_no_data() -> None:
    body = reply([b"one"]).replace(
        b"<rsp:CommandState", b'<rsp:Stream Name="stdout" End="true"/><rsp:CommandState'
    )
    assert streams(body) == [b"one"]


@pytest.mark.parametrize(
    "change",
    [
        (b"rsp:Stream Name", b"rsp:Stream Nome"),
        (b'Name="stdout"', b'Name="stderr"'),
        (b">b25l<", b">b2 5l<"),
        (b">b25l<", b"><x/>b25l<"),
        (b":Body", b":Corpus"),
    ],
)
def test_another_layout_is_left_to_another_parser(change: tuple[bytes, bytes]) -> None:
    body = reply([b"one"])
    assert change[0] in body
    with pytest.raises(UnknownReply):
        streams(body.replace(*change))


@pytest.mark.parametrize("size", [1, 7, 20, 39, 40, 41, 1000, 32747, len(MESSAGE) - 1, len(MESSAGE)])
def test_a_block_comes_out_however_its_message_is_cut(size: int) -> None:
    cut = fragments(3, MESSAGE[:3000] if size < 100 else MESSAGE, size)
    if size < 100:
        # A small block for small fragments: the same path in a second instead of a minute.
        small = message(OUTPUT, block_clixml(BLOCK[:1500]))
        assert assemble(fragments(3, small, size)) == [BLOCK[:1500]]
        return
    assert assemble(cut) == [BLOCK]
    assert assemble([b"".join(cut)]) == [BLOCK]


def test_messages_that_follow_each_other_in_one_stream_come_in_order() -> None:
    state = b"".join(fragments(5, message(STATE, state_clixml(4))))
    other = b"".join(fragments(6, message(OUTPUT, b"<S>text</S>")))
    stream = b"".join([*fragments(4, MESSAGE), state, other, *fragments(7, MESSAGE)])
    assert assemble([stream]) == [BLOCK, Message(state), Message(other), BLOCK]


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 900), st.data())
@settings(max_examples=60)
def test_any_cut_into_streams_on_fragment_boundaries_gives_the_same(
    block: bytes, size: int, data: st.DataObject
) -> None:
    cut = fragments(1, message(OUTPUT, block_clixml(block)), size)
    joined, at = [], 0
    while at < len(cut):
        step = data.draw(st.integers(1, len(cut) - at))
        joined.append(b"".join(cut[at : at + step]))
        at += step
    assert assemble(joined) == [block]


def test_what_is_under_way_can_be_handed_over_with_its_headers() -> None:
    cut = fragments(9, MESSAGE)
    assembler = Assembler()
    assert list(assembler.feed(b"".join(cut[:2]))) == []
    assert assembler.pending == b"".join(cut[:2])
    assert list(assembler.feed(b"".join(cut[2:]))) == [BLOCK]
    assert assembler.pending == b""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cut: [cut[0], *cut[2:]],
        lambda cut: [cut[0], cut[1], cut[1], *cut[2:]],
        lambda cut: [cut[1], cut[0], *cut[2:]],
        lambda cut: cut[1:],
        lambda cut: [*cut[:-1], *cut],
        lambda cut: [cut[0][:-1], *cut[1:]],
        lambda cut: [cut[0][:10]],
    ],
    ids=["lost", "doubled", "swapped", "headless", "restarted", "cut", "stump"],
)
def test_fragments_that_do_not_follow_each_other_are_noticed(spoil) -> None:
    with pytest.raises(BrokenStream):
        assemble(spoil(fragments(2, MESSAGE)))


@pytest.mark.parametrize(
    "clixml",
    [
        block_clixml(b"x").replace(b"Hvps.BlockMessage", b"Hvps.Other"),
        block_clixml(b"x").replace(b'N="Block"', b'N="Clock"'),
        block_clixml(b"x").replace(b"</BA>", b"</BA><S>more</S>"),
        block_clixml(b"xyz").replace(b"eHl6", b"eH l6"),
        b"<S>&lt;MS&gt;</S>",
    ],
)
def test_an_object_that_is_no_block_is_handed_on(clixml: bytes) -> None:
    (item,) = assemble(fragments(1, message(OUTPUT, clixml)))
    assert isinstance(item, Message)

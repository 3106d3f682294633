"""The queues between an engine and Receives: order, limits, back-pressure, and who gets what when."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from uuid import UUID

import pytest

from hvpsbridge.sim.engines import clixml
from hvpsbridge.sim.wsman.outbox import ClientGone, Outbox, ShellBroken, Superseded
from hvpsbridge.units import KIB
from tests.waiting import DEADLINE_SECONDS, wait_until

KEY = "pipeline"
STATE = b'<Obj RefId="0"><MS><I32 N="PipelineState">%d</I32></MS></Obj>'


def fragments(size: int, number: int = 1) -> list[bytes]:
    message = clixml.message(clixml.PIPELINE_OUTPUT, UUID(int=1), UUID(int=2), b"x" * size)
    return list(clixml.fragments(number, message))


def state(value: int) -> bytes:
    message = clixml.message(0x00041006, UUID(int=1), UUID(int=2), STATE % value)
    (fragment,) = clixml.fragments(9, message)
    return fragment


def take(outbox: Outbox, **settings: object) -> tuple[list[bytes], bool]:
    defaults = {
        "limit_bytes": 512_000,
        "overhead_bytes": 100,
        "enough_bytes": 512_000,
        "timeout_seconds": DEADLINE_SECONDS,
        "alive": lambda: True,
    }
    taken, done = outbox.take(KEY, **{**defaults, **settings})  # type: ignore[arg-type]
    return [bytes(fragment) for fragment in taken], done


@pytest.fixture
def outbox() -> Outbox:
    made = Outbox(soft_bytes=256 * KIB, hard_bytes=1024 * KIB)
    made.open(KEY)
    return made


def wait_for_receive(outbox: Outbox, ticket: int) -> None:
    """Return when the lane's receive of that number waits."""
    lane = outbox._lanes[KEY]
    wait_until(lambda: lane.ticket == ticket and lane.wanted_bytes)


def test_fragments_come_in_order_and_within_the_limits(outbox: Outbox) -> None:
    sent = fragments(150 * KIB)
    for fragment in sent:
        outbox.put(KEY, fragment)
    first, _ = take(outbox, limit_bytes=100_000)
    assert sum(map(len, first)) + 100 * len(first) <= 100_000
    second, _ = take(outbox, enough_bytes=KIB + len(sent[0]) * 3 // 4)
    rest, done = take(outbox)
    assert len(second) == 2
    assert first + second + rest == sent
    assert not done


def test_one_fragment_comes_even_when_it_passes_the_limit(outbox: Outbox) -> None:
    outbox.put(KEY, fragments(10)[0])
    assert len(take(outbox, limit_bytes=10)[0]) == 1


@pytest.mark.parametrize("value", [3, 4, 5])
def test_the_last_state_ends_the_pipeline_once_all_is_taken(outbox: Outbox, value: int) -> None:
    outbox.put(KEY, fragments(10)[0])
    outbox.put(KEY, state(2))
    outbox.put(KEY, state(value))
    assert outbox.is_done(KEY)
    assert take(outbox, enough_bytes=20)[1] is False
    assert take(outbox)[1] is True
    # Asked again, it says so again.
    assert take(outbox) == ([], True)


def test_a_receive_waits_for_the_rest_of_an_object_under_way(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvpsbridge.sim.wsman.outbox.GATHER_SECONDS", DEADLINE_SECONDS)
    sent = fragments(100 * KIB)
    assert len(sent) == 4
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(take, outbox)
        for fragment in sent:
            outbox.put(KEY, fragment)
        assert waiting.result() == (sent, False)


def test_whoever_puts_too_much_waits_until_some_is_taken(outbox: Outbox) -> None:
    sent = fragments(1024 * KIB)
    putter = Thread(target=lambda: [outbox.put(KEY, fragment) for fragment in sent])
    putter.start()
    wait_until(lambda: outbox.peak_bytes > 256 * KIB)
    time.sleep(0.2)  # long enough to put all of it, if nothing held it up
    assert putter.is_alive()
    assert outbox.peak_bytes < 256 * KIB + 64 * KIB
    got: list[bytes] = []
    while len(got) < len(sent):
        got += take(outbox)[0]
    putter.join()
    assert got == sent


def test_a_full_lane_lets_another_pipeline_that_waits_through(outbox: Outbox) -> None:
    outbox.open("other")
    sent = fragments(512 * KIB)

    def one_pipe() -> None:
        for fragment in sent:
            outbox.put(KEY, fragment)
        outbox.put("other", fragments(10, 5)[0])

    Thread(target=one_pipe, daemon=True).start()
    wait_until(lambda: outbox.peak_bytes > 256 * KIB)
    taken, _ = outbox.take(
        "other",
        limit_bytes=1000,
        overhead_bytes=0,
        enough_bytes=1000,
        timeout_seconds=DEADLINE_SECONDS,
        alive=lambda: True,
    )
    assert len(taken) == 1


def test_a_later_receive_takes_the_place_of_an_earlier_one(outbox: Outbox) -> None:
    with ThreadPoolExecutor(2) as threads:
        earlier = threads.submit(take, outbox)
        wait_for_receive(outbox, 1)
        later = threads.submit(take, outbox)
        with pytest.raises(Superseded):
            earlier.result()
        outbox.put(KEY, fragments(10)[0])
        assert len(later.result()[0]) == 1


def test_a_client_that_hung_up_gets_nothing_and_nothing_is_lost(outbox: Outbox) -> None:
    with ThreadPoolExecutor(1) as threads:
        there = [True]
        gone = threads.submit(take, outbox, alive=lambda: there[0])
        wait_for_receive(outbox, 1)
        there[0] = False
        outbox.put(KEY, fragments(10)[0])
        with pytest.raises(ClientGone):
            gone.result()
    assert len(take(outbox)[0]) == 1


def test_nothing_in_time_is_a_timeout_and_no_lane_a_key_error(outbox: Outbox) -> None:
    with pytest.raises(TimeoutError):
        take(outbox, timeout_seconds=0.05)
    outbox.close(KEY)
    with pytest.raises(KeyError):
        take(outbox)
    # What an engine still says for it is dropped.
    outbox.put(KEY, fragments(10)[0])


def test_what_was_said_before_the_end_is_still_had(outbox: Outbox) -> None:
    outbox.put(KEY, fragments(10)[0])
    outbox.fail("killed")
    assert len(take(outbox)[0]) == 1
    with pytest.raises(ShellBroken, match="killed"):
        take(outbox)

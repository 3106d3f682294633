"""Feed parsers what a hostile peer could send: mutated samples, within bounds of time and memory.

The tests of a parser declare its targets and make both tests of them::

    TARGETS = [Target("index", samples=(INDEX,), parse=decode_index, refuses=(Malformed,))]

    test_mutated_input_is_read_or_refused = briefly(TARGETS, examples=100)
    test_a_million_mutated_inputs_are_read_or_refused = at_length(TARGETS)

``make test`` runs the first: Hypothesis, some hundred inputs. ``make soak`` runs the second: HVPS_FUZZ_COUNT
inputs (a million) from HVPS_FUZZ_SEED (the time), which it prints; the same seed gives the same inputs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvpsbridge.units import MIB

_COUNT = 1_000_000
# A parser that takes this many times its bound is stopped, so that an endless loop fails the test at once.
_STOP_AFTER = 10
_TRACED = 8
# Numbers at the edges of what fields of 1, 2, 4 and 8 bytes hold.
_EDGES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
# Text that parsers of JSON, XML, YAML and numbers have failed on.
_TOKENS = (
    b"9" * 5000,
    b"-1",
    b"1e400",
    b"NaN",
    b"Infinity",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"<a>" * 3000,
    b"\\ud800",
    b"\xed\xa0\x80",
    b"_xD800_",
    b"_x000A_",
    b"\x00",
    b"\xff\xfe",
    b"../",
    b"null",
    b'""',
    b"{}",
    b"[]",
    b"&a *a ",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser under test.

    Attributes:
        name: What the parser reads; the id of the test.
        samples: Valid inputs to mutate. More kinds of them reach more of the parser.
        parse: Reads one input. What it returns is thrown away.
        refuses: The exceptions it may raise. Others are failures, RecursionError and MemoryError included.
        complete: Makes a mutated sample an input, such as by computing its checksum again.
        seconds: Processor time one input may take.
        memory_bytes: Memory that Python may allocate for one input, at its peak.
    """

    name: str
    samples: tuple[bytes, ...]
    parse: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...]
    complete: Callable[[bytes], bytes] = bytes
    seconds: float = 2
    memory_bytes: int = 64 * MIB

    def __str__(self) -> str:
        return self.name


Edit = tuple[int, float, int]
"""What to do (modulo the kinds), where (0 to 1 of the length), and with which value."""


def briefly(targets: Sequence[Target], *, examples: int) -> Callable[..., None]:
    """A test of each target by :func:`fuzz_briefly`."""

    @pytest.mark.parametrize("target", targets, ids=str)
    def test(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
        fuzz_briefly(target, examples=examples)
        capsys.readouterr()  # restore.py prints

    return test


def at_length(targets: Sequence[Target]) -> Callable[..., None]:
    """A test of each target by :func:`fuzz_at_length`, for ``make soak``."""

    @pytest.mark.soak
    @pytest.mark.parametrize("target", targets, ids=str)
    def test(target: Target) -> None:
        fuzz_at_length(target)

    return test


def fuzz_briefly(target: Target, *, examples: int = 200) -> None:
    """Let Hypothesis mutate the samples.

    Raises:
        AssertionError: An input was neither read nor refused, or took too much time or memory.
    """

    @settings(max_examples=examples, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    @given(sample=st.sampled_from(target.samples), edits=_EDITS)
    def check(sample: bytes, edits: list[Edit]) -> None:
        check_one(target, target.complete(mutate(sample, edits, target.samples)))

    for sample in target.samples:
        check_one(target, target.complete(sample))
    with _measured():
        check()


def fuzz_at_length(target: Target) -> None:
    """Read HVPS_FUZZ_COUNT inputs made from HVPS_FUZZ_SEED; both are printed.

    Raises:
        AssertionError: As :func:`fuzz_briefly`, with the number of the input.
    """
    seed = os.environ.get("HVPS_FUZZ_SEED") or str(time.time_ns())
    count = int(os.environ.get("HVPS_FUZZ_COUNT") or _COUNT)
    sys.stdout.write(f"{target}: {count} inputs, HVPS_FUZZ_SEED={seed}\n")
    with _measured():
        for number in range(count):
            # Tracing halves the speed, so only some inputs are held to the bound of memory.
            if number % _TRACED == 0:
                tracemalloc.start(1)
            else:
                tracemalloc.stop()
            rng = random.Random(f"{seed}/{target}/{number}")
            edits = [_random_edit(rng) for _ in range(rng.choice((1, 1, 2, 3, 8)))]
            data = target.complete(mutate(rng.choice(target.samples), edits, target.samples))
            check_one(target, data, f"seed {seed}, input {number}: ")


def _random_edit(rng: random.Random) -> Edit:
    return rng.getrandbits(16), rng.random(), rng.getrandbits(64)


_EDITS = st.lists(
    st.tuples(st.integers(0, 2**16 - 1), st.floats(0, 1, exclude_max=True), st.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=6,
)


def mutate(sample: bytes, edits: list[Edit], others: tuple[bytes, ...]) -> bytes:
    """Give `sample` after `edits`, some of which take pieces from `others`; each adds at most 40 KiB."""
    data = bytearray(sample)
    for kind, where, value in edits:
        at = int(where * (len(data) + 1))
        length = 1 << value % 9
        match kind % 10:
            case 0 if at < len(data):
                data[at] ^= 1 << value % 8
            case 1 if at < len(data):
                data[at] = value % 256
            case 2:
                width = (1, 2, 4, 8)[value % 4]
                edge = _EDGES[value // 4 % len(_EDGES)] % (1 << 8 * width)
                data[at : at + width] = edge.to_bytes(width, "little" if value & 1 << 40 else "big")
            case 3:
                data[at:at] = value.to_bytes(8, "big")[: 1 + value % 8]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                del data[at:]
            case 7:
                other = others[value % len(others)]
                begin = value // len(others) % (len(other) + 1)
                data[at : at + length] = other[begin : begin + length]
            case 8:
                token = _TOKENS[value % len(_TOKENS)]
                data[at : at + (value // 64 % 3) * len(token)] = token
            case _:
                data[at:at] = bytes([value % 256]) * length
    return bytes(data)


class _TooSlow(BaseException):
    """An input took many times the processor time that it may."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise _TooSlow


@contextmanager
def _measured() -> Iterator[None]:
    """Trace memory, and stop endless loops where signals can be heard: on the main thread."""
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGVTALRM, _stop) if on_main else None
    tracemalloc.start(1)
    try:
        yield
    finally:
        tracemalloc.stop()
        if on_main:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)


def check_one(target: Target, data: bytes, origin: str = "") -> None:
    """Read one input. Memory counts only where :mod:`tracemalloc` runs.

    Raises:
        AssertionError: As :func:`fuzz_briefly`; the message begins with `origin`.
    """
    seconds, peak = _take(target, data, origin)
    if seconds > target.seconds:
        # A busy machine charges more processor time for the same work, by a factor of five in some runs.
        seconds = min(seconds, _take(target, data, origin)[0])
    assert seconds <= target.seconds, f"{origin}{target} took {seconds:.1f} s {_shown(data)}"
    assert peak <= target.memory_bytes, f"{origin}{target} took {peak // MIB} MiB {_shown(data)}"


def _take(target: Target, data: bytes, origin: str) -> tuple[float, int]:
    """Read one input; the processor time and the peak of memory in bytes, 0 where it is not traced."""
    tracing = tracemalloc.is_tracing()
    if tracing:
        tracemalloc.reset_peak()
    stopping = signal.getsignal(signal.SIGVTALRM) is _stop
    if stopping:
        signal.setitimer(signal.ITIMER_VIRTUAL, target.seconds * _STOP_AFTER)
    before = tracemalloc.get_traced_memory()[0]
    begun = time.thread_time()
    try:
        target.parse(data)
    except target.refuses:
        pass
    except _TooSlow:
        raise AssertionError(
            f"{origin}{target} was stopped after {target.seconds * _STOP_AFTER:g} s {_shown(data)}"
        ) from None
    except Exception as err:
        what = f"{type(err).__name__}: {str(err)[:200]}"
        raise AssertionError(f"{origin}{target} raised {what} {_shown(data)}") from err
    finally:
        if stopping:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    seconds = time.thread_time() - begun
    return seconds, tracemalloc.get_traced_memory()[1] - before if tracing else 0


def _shown(data: bytes) -> str:
    return f"for {len(data)} bytes, hexadecimal: {data[:1000].hex()}{'...' if len(data) > 1000 else ''}"

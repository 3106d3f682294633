"""The harness finds each kind of fault it is there for."""

from __future__ import annotations

import json

import pytest

from hvpsbridge.units import MIB
from tests.fuzzing import Target, fuzz_at_length, fuzz_briefly

_SAMPLE = b'{"size": 10, "name": "web01", "disks": [1, 2, 3]}'


def _loop(data: bytes) -> None:
    while b"\xff" in data:
        pass


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            Target(name="json", samples=(_SAMPLE,), parse=json.loads, refuses=(json.JSONDecodeError,)),
            "json raised",
        ),
        (Target(name="loop", samples=(b"abc",), parse=_loop, refuses=(), seconds=0.001), "loop was stopped"),
        (
            Target(
                name="bomb",
                samples=(b"abc",),
                parse=lambda data: bytes(len(data) * MIB),
                refuses=(),
                memory_bytes=2 * MIB,
            ),
            "bomb took",
        ),
    ],
    ids=str,
)
def test_a_fault_is_found(target: Target, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVPS_FUZZ_COUNT", "20000")
    monkeypatch.setenv("HVPS_FUZZ_SEED", "1")
    with pytest.raises(AssertionError, match=f"seed 1, input [0-9]+: {message}"):
        fuzz_at_length(target)
    with pytest.raises(AssertionError, match=message):
        fuzz_briefly(target)


def test_input_that_is_read_or_refused_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HVPS_FUZZ_COUNT", "100")
    monkeypatch.setenv("HVPS_FUZZ_SEED", "1")
    target = Target(
        name="text", samples=(b"abc",), parse=lambda data: data.decode(), refuses=(UnicodeDecodeError,)
    )
    fuzz_briefly(target)
    fuzz_at_length(target)
    assert "text: 100 inputs, HVPS_FUZZ_SEED=1" in capsys.readouterr().out

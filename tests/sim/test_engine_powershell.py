"""The engine around a process: what it writes, reads and waits for, with a process that is difficult."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from hvpsbridge.sim.engines.powershell import POOL_ID, PowerShellEngine
from tests.waiting import DEADLINE_SECONDS

# Acknowledges a line, says more than a pipe holds, and only then reads on.
TALKS_FIRST = f"""#!{sys.executable}
import sys
lines, says = sys.stdin.buffer, sys.stdout.buffer
for _ in range(3):
    length = len(lines.readline())
    says.write(b"<DataAck PSGuid='{POOL_ID}' />\\n")
    for _ in range(100):
        says.write(b"<Data Stream='Default' PSGuid='{POOL_ID}'>" + b"A" * 40000 + b"</Data>\\n")
    says.write(b"<Data Stream='Default' PSGuid='{POOL_ID}'>%d</Data>\\n" % length)
    says.flush()
"""


class Heard:
    """A sink that keeps how long each fragment was, or the short ones themselves."""

    def __init__(self) -> None:
        self.long = 0
        self.short: list[bytes] = []
        self.ended = threading.Event()

    def put(self, key: str | None, fragment: bytes | memoryview) -> None:
        if len(fragment) == 40000:
            self.long += 1
        else:
            self.short.append(bytes(fragment))

    def fail(self, reason: str) -> None:
        self.ended.set()


def test_a_line_longer_than_a_pipe_waits_for_no_output_and_no_output_for_it(tmp_path: Path) -> None:
    program = tmp_path / "talks-first"
    program.write_text(TALKS_FIRST)
    program.chmod(0o700)
    heard = Heard()
    engine = PowerShellEngine(heard, program, {})
    try:
        for size in (10, 2_000_000, 2_000_000):
            engine.feed(None, b"B" * size)
        assert heard.ended.wait(DEADLINE_SECONDS), "engine and process wait for each other"
    finally:
        engine.kill()
    assert heard.long == 300
    frame = len(f"<Data Stream='Default' PSGuid='{POOL_ID}'></Data>\n")
    assert [int(text) - frame for text in heard.short] == [10, 2_000_000, 2_000_000]

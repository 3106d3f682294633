from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest

from hvpsbridge.cli import console, logs
from hvpsbridge.cli.signals import interrupting, restoring_signals
from hvpsbridge.errors import Interrupted, NoRepository
from hvpsbridge.report.documents import document_text
from hvpsbridge.report.documents.points import Verified
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Level, TouchedPoint, VerifyProblem, VerifyReport
from hvpsbridge.secret import HIDDEN, Secret
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.events import Progress, VmRef
from hvpsbridge.tasks.steps import Step

VM = VmRef("hv01", UUID(int=1), "web [bold]01[/bold]")
MOVED = Progress(
    slot="scsi 0:0",
    activity="read",
    owed_bytes=1 << 30,
    done_bytes=1 << 29,
    wire_bytes=1 << 28,
    rate_bytes=float(1 << 25),
    left_seconds=16.0,
)
TABLE = Table("things", ("name", "size"), (("web [red]\x1b[31m", "7 B"), ("b", "1.5 GiB")), frozenset({1}))


def test_elsewhere_a_table_is_aligned_text_that_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(TABLE)
    wide = Table("wide", ("name",), (("x" * 500,),))
    console.table(wide)
    out = capsys.readouterr().out
    assert out.splitlines()[:4] == [
        "THINGS",
        "name               size",
        "web [red]\N{REPLACEMENT CHARACTER}[31m      7 B",
        "b               1.5 GiB",
    ]
    assert "x" * 500 in out


def test_elsewhere_a_long_cell_makes_no_other_row_longer(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (("a", "x" * 100, "end"), ("bb", "short", "end"))
    console.table(Table("wide", ("name", "what", "remedy"), rows))
    assert capsys.readouterr().out.splitlines() == [
        "WIDE",
        "name  what   remedy",
        f"a     {'x' * 100}  end",
        "bb    short  end",
    ]


@pytest.mark.parametrize(
    "passphrase",
    ["seconds_of_all", "problem_no_1", 'a "quoted\\" one', "00000000-0000", "four\nlines", "pa&ss<1>"],
)
def test_a_document_hides_a_secret_and_stays_the_document_it_is(
    passphrase: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs.redact, "_values", ())
    logs.redact.add(Secret(passphrase))
    touched = TouchedPoint(UUID(int=1), UUID(int=2), "web01", ("scsi 0:0",))
    problem = VerifyProblem("data/1", f"said {passphrase} twice: {passphrase}", (touched,))
    report = VerifyReport(
        level=Level.HASHED,
        points=1,
        chunks=2,
        hashed_chunks=3,
        hashed_bytes=4,
        seconds=0.5,
        problems=(problem,),
    )
    document = Verified(False, report)
    console.document(document)
    printed = json.loads(capsys.readouterr().out)
    expected = json.loads(document_text(document))
    expected["report"]["problems"][0]["what"] = f"said {HIDDEN} twice: {HIDDEN}"
    assert printed == expected


def test_elsewhere_progress_is_a_line_for_what_begins_is_decided_and_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    result = BackupResult(VM, "backup", datetime(2026, 3, 1, tzinfo=UTC), 65.0, error=NoRepository("/r"))
    with console.observer() as seen:
        seen.started(VM, "backup")
        seen.step(VM, Step.READ, "before")
        seen.progress(VM, MOVED)
        now[0] += console.PLAIN_SECONDS - 1
        seen.progress(VM, MOVED)
        now[0] += 1
        seen.progress(VM, MOVED)
        seen.noted(VM, "waiting: a migration")
        seen.finished(VM, result)
    out, err = capsys.readouterr()
    assert out == ""
    name = "hv01/web [bold]01[/bold]"
    assert err.splitlines() == [
        f"{name}: backup started",
        f"{name}: scsi 0:0 read  50 % of 1 GiB, 256 MiB on the wire, 32 MiB/s, 16 s left",
        f"{name}: waiting: a migration",
        f"{name}: backup failed in 1 min 05 s: no repository at /r; "
        "check the URL and that its storage is mounted, or create one with `hvps repo init`",
    ]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.observer(quiet=True) as seen:
        seen.started(VM, "backup")
        seen.noted(VM, "x")
    assert capsys.readouterr() == ("", "")


_ON_A_TERMINAL = """
from uuid import UUID
from hvpsbridge.cli import console, logs
from hvpsbridge.report.views import Table
from tests.cli.test_console import MOVED, TABLE, VM
from hvpsbridge.tasks.steps import Step
with console.observer() as seen:
    seen.started(VM, "backup")
    seen.step(VM, Step.READ, "before")
    seen.progress(VM, MOVED)
    seen.noted(VM, "waiting")
console.table(TABLE)
"""


def test_on_a_terminal_progress_has_bars_and_tables_have_lines() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_A_TERMINAL],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end of the terminal is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait(30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "scsi 0:0 read" in text
    assert "50 % of 1 GiB" in text
    assert "read and store what changed" in text
    assert "hv01/web [bold]01[/bold]: waiting" in text
    assert "web [red]\N{REPLACEMENT CHARACTER}[31m" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_and_the_handlers_before_are_put_back(number: signal.Signals) -> None:
    started_with = signal.signal(number, signal.SIG_DFL)  # nohup has SIGHUP ignored
    try:
        with restoring_signals():
            with pytest.raises(Interrupted, match=number.name), interrupting():
                signal.raise_signal(number)
            signal.raise_signal(number)  # a second one waits for the report
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, started_with)

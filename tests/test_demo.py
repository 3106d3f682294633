"""The demo tells the truth: it ends well only when every disk of every point is proved."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.cli.main import main
from hvpsbridge.demo.play import BackedUp, DemoResult, DiskProof
from hvpsbridge.errors import ExitCode
from tests.cli.schemas import assert_valid

# On two cores that were busy with other things a demo with real PowerShell has taken five minutes.
DEADLINE_SECONDS = 1200
DISKS = 3
RUNS = 2


def demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hvpsbridge", "demo", "--small", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )


def proved(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The document of a demo that went well, its promises checked."""
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["good"]
    assert_valid("demo", document)
    proofs, backups = document["proofs"], document["backups"]
    assert len(proofs) == len(backups) == DISKS * RUNS
    for proof in proofs:
        assert proof["unequal"] == ""
        assert proof["unclean"] == proof["different"] == []
        assert proof["files"] == proof["files_expected"] > 100
    assert {"ext4", "fat32"} <= {name for proof in proofs for name in proof["file_systems"]}
    for row in backups:
        assert row["mode"] == ("full" if row["run"] == 1 else "incremental")
        assert row["reason"]
        assert row["changed_bytes"] > 0
        assert row["wire_bytes"] > 0
    for full, increment in zip(backups[:DISKS], backups[DISKS:], strict=True):
        assert (full["vm"], full["slot"]) == (increment["vm"], increment["slot"])
        assert increment["wire_bytes"] < full["wire_bytes"]
    return document


@pytest.mark.first
@pytest.mark.timeout(DEADLINE_SECONDS + 60)
def test_the_demo_proves_every_disk_of_every_point_with_powershell(pwsh: Path) -> None:
    document = proved(demo("--json", "--engine", "powershell", HVPS_PWSH=str(pwsh)))
    assert document["engine"] == "powershell"


@pytest.mark.first
@pytest.mark.timeout(DEADLINE_SECONDS + 60)
def test_on_a_terminal_the_demo_shows_bars_and_one_screen_of_tables() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hvpsbridge", "demo", "--small"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    seen = bytearray()
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(ours)
    text = seen.decode(errors="replace")
    assert process.wait() == 0, text[-3000:]
    assert "\x1b[" in text
    assert "files as they were" in text
    assert "all good: 6 disks restored" in text


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "something").touch()
    assert main(["demo", "--folder", str(tmp_path)]) is ExitCode.INVALID
    assert "is not empty" in capsys.readouterr().err


GOOD = DiskProof(
    point_id="p",
    vm="web01",
    slot="scsi 0:0",
    file_systems=("ext4",),
    unequal="",
    unclean=(),
    different=(),
    files=10,
    files_expected=10,
)
ROW = BackedUp(
    run=1,
    vm="web01",
    slot="scsi 0:0",
    mode="full",
    reason="first point",
    changed_bytes=1,
    read_bytes=1,
    wire_bytes=1,
    stored_bytes=1,
    seconds=1.0,
)
OUTCOME = DemoResult(
    engine="builtin",
    backups=(ROW, replace(ROW, run=2, mode="incremental")),
    proofs=(GOOD, GOOD),
    left_out=(),
    seconds=1.0,
    disks=1,
)


def test_an_outcome_is_good_when_everything_is_proved() -> None:
    assert OUTCOME.good


@pytest.mark.parametrize(
    "wrong",
    [
        replace(OUTCOME, proofs=(GOOD,)),
        replace(OUTCOME, proofs=()),
        replace(OUTCOME, disks=2),
        replace(OUTCOME, backups=(ROW, replace(ROW, run=2, mode="full"))),
        *(
            replace(OUTCOME, proofs=(GOOD, bad))
            for bad in (
                replace(GOOD, unequal="differ: byte 1"),
                replace(GOOD, unclean=("e2fsck ended with 4",)),
                replace(GOOD, different=("a is missing",)),
                replace(GOOD, files=9),
                replace(GOOD, files=0, files_expected=0),
            )
        ),
    ],
)
def test_an_outcome_is_not_good_when_anything_is_not(wrong: DemoResult) -> None:
    assert not wrong.good

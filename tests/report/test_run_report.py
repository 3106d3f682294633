from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.contract.results import Consistency
from hvpsbridge.errors import ExitCode, HostNotClean, HostUnreachable, OperationFailed
from hvpsbridge.report.documents import VERSION, document_text
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.report.values import jsonable
from hvpsbridge.report.views import (
    condition_lines,
    recap_table,
    run_events,
    run_tables,
    summary_line,
)
from hvpsbridge.secret import Secret
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.restore.results import RestoredDisk, RestoreResult
from hvpsbridge.tasks.results import HostProblem, RunResult, TaskResult
from hvpsbridge.tasks.transfer.figures import DiskFigures
from hvpsbridge.tasks.verify import PointCheck, VerifyResult

RUN = UUID("12345678-0000-4000-8000-000000000000")
VM = VmRef("hv01", UUID(int=7), "web [red]01[/red]")
AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def _disk(slot: str, mode: Mode = Mode.INCREMENTAL) -> DiskFigures:
    return DiskFigures(
        slot=slot,
        size_bytes=1 << 30,
        mode=mode,
        reason=Reason.TRACKED,
        reason_text="tracked",
        changed_bytes=4096,
        read_bytes=8192,
        wire_bytes=9000,
        stored_bytes=262144,
        new_chunks=1,
        reread_chunks=0,
        resumed=0,
        proved_bytes=1 << 30,
        lied_chunks=0,
        seconds=2.0,
    )


def _backup(**more: object) -> BackupResult:
    return BackupResult(
        VM, "backup", AT, 2.5, point_id=UUID(int=9), consistency="crash", disks=(_disk("scsi 0:0"),), **more
    )


RESTORED = RestoredDisk(
    slot="scsi 0:0", path="/r/0.raw", size_bytes=8, data_bytes=4, seconds=0.5, sector_bytes=4096
)


def _run(*tasks: TaskResult, problems: tuple[HostProblem, ...] = ()) -> RunResult:
    return RunResult(RUN, AT, 3.0, tasks, problems)


def test_a_run_becomes_one_document_with_its_version_and_code() -> None:
    verify = VerifyResult(VM, "verify", AT, 1.0, points=(PointCheck(UUID(int=9), "hashed", 5, ()),))
    restore = RestoreResult(
        VM,
        "restore",
        AT,
        1.0,
        point_id=UUID(int=9),
        disks=(RESTORED,),
        mapped=(MappedName("~", "_~"),),
    )
    report = run_report(_run(_backup(), verify, restore), name="nightly", check=False)
    document = json.loads(document_text(report))
    assert document["version"] == VERSION
    assert document["run_id"] == str(RUN)
    assert document["started"] == "2026-03-01T02:00:00.000+00:00"
    assert (document["exit_code"], document["exit"]) == (0, "done")
    backup, verified, restored = document["tasks"]
    assert backup["vm_id"] == str(UUID(int=7))
    assert backup["backup"]["disks"][0]["wire_bytes"] == 9000
    assert backup["backup"]["disks"][0]["rate_bytes"] == 4096.0
    assert backup["verify"] is None
    assert verified["verify"][0]["faults"] == []
    assert restored["restore"]["disks"][0]["path"] == "/r/0.raw"
    assert restored["restore"]["disks"][0]["sector_bytes"] == 4096
    assert restored["restore"]["disks"][0]["unfinished_bytes"] == 0
    assert restored["restore"]["mapped"] == [{"name": "~", "file_name": "_~"}]
    assert any("losetup --sector-size 4096" in line for line in condition_lines(report))


def test_a_failure_carries_kind_text_code_and_facts() -> None:
    error = OperationFailed(
        "hv01", "New-HvpsCheckpoint", "Hvps.VmBusy", "ResourceBusy", -2147, "zwei\nZeilen"
    )
    left = HostNotClean("hv01", "web01", ("checkpoint 1",))
    task = BackupResult(VM, "backup", AT, 1.0, error=error, conditions=(left,))
    report = run_report(_run(task), name="n", check=False)
    first, second = report.tasks[0].conditions
    assert (first.kind, first.exit_code) == ("OperationFailed", 2)
    assert "\n" not in first.text
    assert first.facts["native"] == -2147
    assert second.facts == {"host": "hv01", "vm": "web01", "leftovers": ["checkpoint 1"]}
    assert report.exit_code == 2
    assert json.loads(document_text(report))["tasks"][0]["outcome"] == "failed"


def test_a_host_that_failed_as_a_whole_is_in_the_document_and_in_the_lines() -> None:
    problem = HostProblem("hv02", HostUnreachable("hv02", "refused"))
    report = run_report(_run(_backup(), problems=(problem,)), name="n", check=False)
    assert report.exit_code == ExitCode.HOST_UNREACHABLE
    assert report.problems[0].kind == "HostUnreachable"
    (line,) = condition_lines(report)
    assert line.startswith("host hv02 cannot be reached")


def test_the_code_of_an_interrupt_overrides_the_run_s_own() -> None:
    report = run_report(_run(_backup()), name="n", check=False, exit_code=ExitCode.TERMINATED)
    assert (report.exit_code, report.exit) == (143, "terminated")


def test_warnings_alone_are_code_3_and_a_line_each() -> None:
    report = run_report(_run(_backup(warnings=("crash consistent only",))), name="n", check=False)
    assert report.exit_code == ExitCode.DEGRADED
    assert condition_lines(report) == (f"hv01/{VM.name} backup: warning: crash consistent only",)


def test_the_recap_has_a_row_for_each_vm_with_its_tasks_counted() -> None:
    verify = VerifyResult(VM, "verify", AT, 1.0)
    other = BackupResult(VmRef("hv01", None, "b"), "backup", AT, 1.0, error=HostUnreachable("hv01", "x"))
    table = recap_table(run_report(_run(_backup(), verify, other), name="n", check=False))
    assert table.columns == ("host", "VM", "done", "degraded", "skipped", "failed", "time")
    assert table.rows == (
        ("hv01", VM.name, "2", "0", "0", "0", "3.5 s"),
        ("hv01", "b", "0", "0", "0", "1", "1.0 s"),
    )


def test_every_row_of_every_table_is_as_wide_as_its_headings() -> None:
    report = run_report(
        _run(
            _backup(),
            VerifyResult(VM, "verify", AT, 1.0, points=(PointCheck(UUID(int=9), "hashed", 5, ("bad",)),)),
            RestoreResult(
                VM,
                "restore",
                AT,
                1.0,
                disks=(RESTORED,),
            ),
        ),
        name="n",
        check=False,
    )
    tables = run_tables(report)
    assert [table.title for table in tables] == ["backups", "points verified", "disks restored", "recap"]
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert max(table.right, default=0) < len(table.columns)


def test_the_summary_shows_how_the_run_ended() -> None:
    report = run_report(_run(_backup()), name="nightly", check=False)
    assert summary_line(report) == "nightly: 1 task ended: done (exit 0) in 3.0 s, run 12345678"


def test_json_lines_are_a_line_a_task_and_one_for_the_run() -> None:
    report = run_report(_run(_backup(), _backup()), name="n", check=False)
    events = [json.loads(document_text(event, indent=None)) for event in run_events(report)]
    assert [event["event"] for event in events] == ["task", "task", "run"]
    assert "tasks" not in events[2]
    assert events[2]["run_id"] == events[0]["run_id"] == str(RUN)


@dataclass(frozen=True)
class _Thing:
    where: Path
    secret: Secret


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_Thing(Path("/x"), Secret("hunter2")), {"where": "/x", "secret": "********"}),
        (Consistency.CRASH, "crash"),
        (ExitCode.DONE, 0),
        (Reason.TRACKED, "tracked"),
        ({UUID(int=1): (1, None)}, {str(UUID(int=1)): [1, None]}),
        (b"\x01\xff", "01ff"),
        (ValueError("a\nb"), "a b"),
    ],
)
def test_values_have_one_json_form_and_secrets_none(value: object, expected: object) -> None:
    assert jsonable(value) == expected


def test_redaction_changes_text_and_nothing_that_programs_rely_on() -> None:
    report = run_report(_run(_backup(warnings=("a warning",))), name="nightly", check=False)
    plain = json.loads(document_text(report))
    hidden = json.loads(document_text(report, redact=lambda text: "*" * len(text)))
    assert hidden["name"] == "*******"
    assert hidden["tasks"][0]["warnings"] == ["*********"]
    for key in ("run_id", "started", "exit", "exit_code", "seconds"):
        assert hidden[key] == plain[key]
    for key in ("task", "outcome", "vm_id", "started"):
        assert hidden["tasks"][0][key] == plain["tasks"][0][key]
    disk = plain["tasks"][0]["backup"]["disks"][0]
    for key in ("mode", "reason", "wire_bytes"):
        assert hidden["tasks"][0]["backup"]["disks"][0][key] == disk[key]

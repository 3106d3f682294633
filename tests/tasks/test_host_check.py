"""What facts of a host mean for backups: one line and one remedy each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hvpsbridge.contract.checks import DiskProbe, GroupState, HostAccess, StorageInfo, StorageKind
from hvpsbridge.contract.readings import ReaderCheck
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.tasks.host_check import (
    CheckState,
    HostCheck,
    Reached,
    check_compiler,
    check_disk,
    check_elevation,
    check_ids,
    check_proof,
    check_protection,
    check_reached,
    check_rights,
    check_system,
)
from hvpsbridge.tasks.host_limits import check_limits
from hvpsbridge.tasks.host_records import IdWay, ProvedBuild
from hvpsbridge.tasks.planning.eligibility import Severity
from hvpsbridge.tasks.planning.estimate import duration_finding, full_bytes
from hvpsbridge.tasks.planning.storage import share_findings, share_of, storage_findings
from hvpsbridge.units import GIB, MIB, TIB
from tests.tasks import builders as make

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REACHED = Reached(server="hv01", port=5986, tls=True, auth="ntlm", user="backup", certificate_days=400)
ACCESS = HostAccess(
    administrators=GroupState.ENABLED,
    hyperv_administrators=False,
    volume_privilege=True,
    defender_active=True,
    defender_rules=(),
)
UNLIMITED = 2_147_483_647
LIMITS = WinRmLimits(
    shells_per_user=UNLIMITED,
    shell_memory_mb=UNLIMITED,
    processes_per_shell=UNLIMITED,
    operations_per_user=1500,
    envelope_kb=500,
    idle_ms=7_200_000,
    max_idle_ms=UNLIMITED,
    run_ms=UNLIMITED,
)


def states(checks) -> dict[str, CheckState]:
    return {check.topic: check.state for check in checks}


def test_a_host_as_it_should_be_has_no_remedy() -> None:
    info = replace(make.host(), time=NOW)
    checks = (
        *check_reached(REACHED),
        *check_system(info, NOW),
        check_rights(ACCESS),
        check_protection(ACCESS),
        check_compiler(ReaderCheck(True, 4.0)),
        *check_limits(LIMITS),
    )
    assert {(check.state, check.remedy) for check in checks} == {(CheckState.GOOD, "")}


@pytest.mark.parametrize(
    ("changed", "state", "text"),
    [
        ({"certificate_days": 12}, CheckState.NOTE, "expires in 12 days"),
        ({"certificate_days": -1}, CheckState.NOTE, "has expired"),
        ({"certificate_days": None}, CheckState.UNKNOWN, "dates cannot be read"),
        ({"insecure": True}, CheckState.NOTE, "any certificate is accepted"),
        ({"pinned": True}, CheckState.GOOD, "pinned; 400 days left"),
    ],
)
def test_the_certificate_and_its_days(changed: dict[str, object], state: CheckState, text: str) -> None:
    (found,) = (c for c in check_reached(replace(REACHED, **changed)) if c.topic == "certificate")  # type: ignore[arg-type]
    assert (found.state, text in found.text) == (state, True), found


def test_without_tls_there_is_no_certificate() -> None:
    assert "certificate" not in states(check_reached(replace(REACHED, tls=False, port=5985)))


@pytest.mark.parametrize(
    ("changed", "topic", "state"),
    [
        ({"time": NOW + timedelta(minutes=9)}, "clock", CheckState.NOTE),
        ({"os_build": 9600}, "Windows", CheckState.REFUSE),
        ({"is_64bit": False}, "PowerShell", CheckState.REFUSE),
        ({"language_mode": "NoLanguage"}, "language mode", CheckState.REFUSE),
        ({"hyperv_module_version": None}, "Hyper-V module", CheckState.REFUSE),
    ],
)
def test_what_a_system_lacks(changed: dict[str, object], topic: str, state: CheckState) -> None:
    info = replace(make.host(), **{"time": NOW, **changed})  # type: ignore[arg-type]
    found = {check.topic: check for check in check_system(info, NOW)}
    assert found[topic].state is state
    assert found[topic].remedy
    assert {c.state for c in found.values() if c.topic != topic} == {CheckState.GOOD}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"administrators": GroupState.DENY_ONLY}, "LocalAccountTokenFilterPolicy"),
        ({"administrators": GroupState.ABSENT}, "not an administrator"),
        (
            {"administrators": GroupState.ABSENT, "hyperv_administrators": True},
            "Hyper-V Administrators can only make checkpoints",
        ),
        ({"volume_privilege": False}, "Perform volume maintenance tasks"),
    ],
)
def test_rights_that_do_not_attach_disks(changed: dict[str, object], text: str) -> None:
    found = check_rights(replace(ACCESS, **changed))  # type: ignore[arg-type]
    assert found.state is CheckState.REFUSE
    assert text in f"{found.text} {found.remedy}"


def test_rights_of_a_host_that_does_not_describe_them() -> None:
    assert check_elevation(make.host()).state is CheckState.GOOD
    assert check_elevation(replace(make.host(), is_administrator=False)).state is CheckState.REFUSE


def test_rules_that_concern_hvps_are_named_and_others_are_not() -> None:
    rules = ("5beb7efe-fd9a-4556-801d-275e5ffc04cc=2", "01443614-cd74-433a-b99e-2ecdc07bfc25=0", "x=1")
    found = check_protection(replace(ACCESS, defender_rules=rules))
    assert (found.state, "would block (audit) scripts" in found.text) == (CheckState.NOTE, True)
    assert check_protection(replace(ACCESS, defender_rules=rules[1:])).state is CheckState.GOOD
    assert check_protection(replace(ACCESS, defender_active=None)).state is CheckState.UNKNOWN


@pytest.mark.parametrize(
    ("native", "path", "state"),
    [
        (None, r"C:\a.vhdx", CheckState.GOOD),
        (32, r"C:\a.vhdx", CheckState.GOOD),
        (0xC03A001F, r"C:\a.vhdx", CheckState.GOOD),
        (5, r"C:\a.vhdx", CheckState.REFUSE),
        (5, r"\\fs\share\a.vhdx", CheckState.REFUSE),
        (0xC03A0002, r"C:\a.vhdx", CheckState.NOTE),
        (4711, r"C:\a.vhdx", CheckState.NOTE),
    ],
)
def test_in_use_is_an_answer_of_the_driver(native: int | None, path: str, state: CheckState) -> None:
    found = check_disk(DiskProbe(path=path, native=native, size_bytes=0))
    assert found.state is state
    assert ("delegation" in found.remedy) == (native == 5 and share_of(path) is not None)


@pytest.mark.parametrize(
    ("changed", "topic", "state"),
    [
        ({"shells_per_user": 1}, "MaxShellsPerUser", CheckState.REFUSE),
        ({"shells_per_user": 5}, "MaxShellsPerUser", CheckState.NOTE),
        ({"shell_memory_mb": 150}, "MaxMemoryPerShellMB", CheckState.NOTE),
        ({"processes_per_shell": 1}, "MaxProcessesPerShell", CheckState.NOTE),
        ({"operations_per_user": 15}, "MaxConcurrentOperationsPerUser", CheckState.NOTE),
        ({"envelope_kb": 150}, "MaxEnvelopeSizekb", CheckState.NOTE),
        ({"envelope_kb": None}, "MaxEnvelopeSizekb", CheckState.UNKNOWN),
        ({"max_idle_ms": 60_000}, "MaxIdleTimeoutms", CheckState.NOTE),
        ({"run_ms": 3_600_000}, "MaxShellRunTime", CheckState.NOTE),
    ],
)
def test_what_a_limit_means(changed: dict[str, int | None], topic: str, state: CheckState) -> None:
    found = {check.topic: check for check in check_limits(replace(LIMITS, **changed))}  # type: ignore[arg-type]
    assert found[topic].state is state
    assert {c.state for c in found.values() if c.topic != topic} == {CheckState.GOOD}


def test_limits_that_cannot_be_read_are_one_row() -> None:
    assert [check.state for check in check_limits(WinRmLimits())] == [CheckState.UNKNOWN]


def test_what_is_known_of_a_build() -> None:
    assert check_proof(ProvedBuild()).state is CheckState.UNKNOWN
    known = check_proof(ProvedBuild(proved=NOW, way=IdWay.REFERENCE))
    assert known == HostCheck("tracking", CheckState.GOOD, "proved on 2026-01-01")


@pytest.mark.parametrize(
    ("known", "state", "text"),
    [
        (ProvedBuild(), CheckState.UNKNOWN, "the first backup shows"),
        (ProvedBuild(differ=False), CheckState.GOOD, "share"),
        (ProvedBuild(proved=NOW, way=IdWay.FROZEN), CheckState.GOOD, "share"),
        (ProvedBuild(differ=True), CheckState.NOTE, "other ids than frozen disks"),
        (ProvedBuild(differ=True, way=IdWay.REFERENCE), CheckState.GOOD, "as proved"),
        (ProvedBuild(way=IdWay.REFERENCE, refuted=NOW), CheckState.NOTE, "missed changes"),
    ],
)
def test_which_id_increments_start_from(known: ProvedBuild, state: CheckState, text: str) -> None:
    check = check_ids(known)
    assert (check.topic, check.state) == ("increments", state)
    assert text in check.text


@pytest.mark.parametrize(
    ("path", "share"),
    [
        (r"\\Fs\vms\a.vhdx", r"\\fs\vms"),
        (r"\\?\UNC\fs\vms\a.vhdx", r"\\fs\vms"),
        (r"\\10.0.0.1\vms$\a.vhdx", r"\\10.0.0.1\vms$"),
        (r"C:\a.vhdx", None),
        (r"\\?\C:\a.vhdx", None),
        (r"\\?\Volume{0b}\a.vhdx", None),
        (r"\\.\PhysicalDrive1\x", None),
        ("", None),
    ],
)
def test_which_paths_are_on_a_share(path: str, share: str | None) -> None:
    assert share_of(path) == share


def test_a_share_is_refused_only_when_the_login_cannot_open_its_disk() -> None:
    def probe(path: str, native: int | None) -> DiskProbe:
        return DiskProbe(path=path, native=native, size_bytes=0)

    share, local = r"\\fs\vms\a.vhdx", r"C:\a.vhdx"
    probes = (probe(share, 5), probe(share, None), probe(share, 32), probe(local, 5))
    (found,) = share_findings(probes)
    assert found.severity is Severity.REFUSE
    assert "ERROR_ACCESS_DENIED" in found.text


def test_storage_that_needs_attention() -> None:
    def place(root: str, kind: StorageKind, free: int | None) -> StorageInfo:
        return StorageInfo(
            vm_id=make.VM_ID, root=root, kind=kind, file_system=None, free_bytes=free, total_bytes=free
        )

    good = [place(f"{kind}:\\", kind, TIB) for kind in (StorageKind.NTFS, StorageKind.REFS, StorageKind.CSV)]
    assert not list(storage_findings(good, 10 * GIB))
    bad = [
        place(r"\\fs\vms", StorageKind.SMB, None),
        place("D:\\", StorageKind.NTFS, GIB),
        place("E:\\", StorageKind.OTHER, TIB),
    ]
    severities = [finding.severity for finding in storage_findings(bad, 10 * GIB)]
    assert severities == [Severity.NOTE, Severity.REFUSE, Severity.NOTE]


def test_a_full_reads_what_files_hold_and_chains_in_whole() -> None:
    dynamic = replace(make.drive(), size_bytes=100 * MIB, file_bytes=7 * MIB)
    chained = replace(dynamic, chain=("C:\\child.avhdx", "C:\\base.vhdx"))
    assert full_bytes([dynamic, chained]) == 107 * MIB


def test_a_full_that_takes_longer_than_a_checkpoint_may_age_is_noted() -> None:
    assert duration_finding(20 * MIB * 3600, 20 * MIB, 3600) is None
    found = duration_finding(TIB, 20 * MIB, 12 * 3600)
    assert found is not None
    assert found.severity is Severity.NOTE
    assert "14 h 33 min at 20 MiB/s" in found.text

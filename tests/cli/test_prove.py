"""``hvps host prove`` on a simulated host whose scripts run in a real PowerShell."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hvpsbridge.errors import ExitCode, SimulatorError
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.resources import resource_folder
from hvpsbridge.sim.control.client import Control
from hvpsbridge.sim.guests.pattern import PatternWriter
from hvpsbridge.sim.model.knobs import HOSTILE, HOSTILE_TO_RESTORES
from hvpsbridge.tasks.prove.expectations import EXPECTATIONS, deviations
from hvpsbridge.tasks.prove.remote import HostScratch
from hvpsbridge.tasks.prove.scratch import ScratchLedger
from tests.cli.conftest import Hvps, Served, in_process, serving
from tests.cli.schemas import assert_valid
from tests.connections import basic
from tests.tasks.prove.test_prover import SCRIPTS_ONLY
from tests.waiting import DEADLINE_SECONDS

PROBE_WIRE = resource_folder("conformance") / "probe_wire.py"
CANARY = "canary-7f3a9c"


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))


@pytest.fixture
def scripted(tmp_path: Path, pwsh: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A simulated host that runs scripts."""
    monkeypatch.setenv("HVPS_PWSH", str(pwsh))
    with serving(tmp_path / "world", "--engine", "powershell") as served:
        yield served


def test_a_scratch_vm_is_made_probed_and_removed_and_no_secret_is_recorded(
    hvps: Hvps, tmp_path: Path, scripted: Served
) -> None:
    other = hvps("sim", "create", f"{CANARY}-other", "--folder", scripted.folder)
    assert other.code == 0, other.err
    out = tmp_path / "out"
    done = hvps(
        *("host", "prove", scripted.url, *scripted.connection, "--vm", f"{CANARY}-vm", "--make"),
        *("--disk-mib", "64", "--only", "facts", "--only", "probes", "--only", "operations"),
        *("--remove", "--json", "--folder", out),
    )
    assert done.code == 0, done.err + done.out
    document = json.loads(done.out)
    assert_valid("host prove", document)
    assert [row for row in document["rows"] if row["verdict"] != "pass"] == []
    assert [one for one in document["deviations"] if not one["timed"]] == []
    assert not document["proved"]  # the product itself did not run
    assert document["facts"]["job.there_after_end"] is True
    assert json.loads((out / "facts.json").read_text()) == document
    named = json.loads(hvps("sim", "list", "--folder", scripted.folder, "--json").out)
    assert [vm["name"] for vm in named["vms"]] == [f"{CANARY}-other"]
    # The name of the scratch VM is in the facts; nothing else of the host's owner is anywhere.
    recorded = "".join(path.read_text() for path in (out / "recordings").iterdir())
    assert '"shape"' in recorded
    password = (scripted.folder / "password").read_text().strip()
    for secret in (CANARY, password, "backup"):
        assert secret not in recorded
    assert not re.search(r"[A-Za-z0-9+/]{100,}", recorded)  # nothing encoded either


# The group of stages whose facts name a knob that the model alone does not show.
SHOWN_BY = {
    "config_unreadable": "facts",
    "defender": "facts",
    "reply_bytes": "facts",
    "shell_memory_mb": "facts",
    "shells_per_user": "facts",
    "frozen_log": "operations",
    "files_held": "operations",
    "read_delay_seconds": "cycle",
    **dict.fromkeys(
        (
            "detach_seconds",
            "disabled_refuses_backups",
            "job_vanishes",
            "jobs_at_once",
            "no_merge_settings",
            "no_security_settings",
            "read_sync",
            "short_reads",
            "vhd_busy_while_merging",
            "wmi_changes_as_job",
            "wmi_length_below_size",
        ),
        "probes",
    ),
}


def test_every_knob_that_only_scripts_show_has_a_stage() -> None:
    assert SHOWN_BY.keys() == SCRIPTS_ONLY


@pytest.mark.parametrize(
    "knob",
    [
        pytest.param(knob, marks=() if knob == "shells_per_user" else pytest.mark.soak)
        for knob in sorted(SHOWN_BY)
    ],
)
def test_a_hostile_knob_is_named(hvps: Hvps, tmp_path: Path, scripted: Served, knob: str) -> None:
    value = HOSTILE[knob]
    shown = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
    assert hvps("sim", "knob", knob, shown, "--folder", scripted.folder).code == 0
    done = hvps(
        *("host", "prove", scripted.url, *scripted.connection, "--vm", "scratch", "--make", "--json"),
        *("--disk-mib", "64", "--only", SHOWN_BY[knob], "--folder", tmp_path / "out"),
    )
    document = json.loads(done.out)
    assert knob in {one["knob"] for one in document["deviations"]}, document["rows"]


@pytest.mark.soak
def test_what_a_guest_writes_before_the_conversion_is_seen_over_the_wire(
    hvps: Hvps, tmp_path: Path, scripted: Served
) -> None:
    """With the kit's guest, in real time; the whole proof is a test of the model."""
    assert hvps("sim", "knob", "new_id_of_freeze", "on", "--folder", scripted.folder).code == 0
    host = ("host", "prove", scripted.url, *scripted.connection, "--vm", "scratch", "--json")
    made = hvps(*host, "--make", "--disk-mib", "64", "--only", "facts", "--folder", tmp_path / "made")
    assert made.code == 0, made.err
    ended = threading.Event()

    def work() -> None:
        with Control(scripted.folder) as control:
            control.set_state("scratch", "start")
            slot = control.vms()[0].disks[0].slot
            writer = PatternWriter(partial(control.write, "scratch", slot), records=1000)
            while not ended.is_set():
                with contextlib.suppress(SimulatorError):  # it is off for a moment
                    writer.write_record(time.monotonic())
                ended.wait(0.05)

    guest = threading.Thread(target=work)
    guest.start()
    try:
        done = hvps(*host, "--guest", "--only", "operations", "--folder", tmp_path / "out")
    finally:
        ended.set()
        guest.join()
    document = json.loads(done.out)
    assert [row for row in document["rows"] if row["verdict"] == "fail"] == []
    assert document["facts"]["window.records"] >= 8
    assert document["facts"]["window.covered"] is True
    assert document["facts"]["window.by_guest"] is True


def test_the_wire_is_measured_from_here(served: Served, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(
                sys.executable,
                PROBE_WIRE,
                served.url,
                "backup",
                served.folder / "password",
                "--auth",
                "basic",
            ),
            *("--shells", "1,2", "--recordings", tmp_path / "recordings"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["wire.rate_bytes"].keys() == {"1", "2"}
    assert facts["wire.largest_reply_bytes"] > 0


def test_a_vm_that_the_kit_did_not_make_is_refused(hvps: Hvps, served: Served, tmp_path: Path) -> None:
    assert hvps("sim", "create", "web01", "--folder", served.folder).code == 0
    done = hvps(
        *("host", "prove", served.url, *served.connection, "--vm", "web01"), "--folder", tmp_path / "out"
    )
    assert done.code != 0
    assert "is not in the ledger of scratch VMs" in done.err


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    hvps: Hvps, served: Served, tmp_path: Path
) -> None:
    done = hvps(
        *("host", "prove", served.url, *served.connection, "--vm", "new", "--make", "--dry-run"),
        *("--folder", tmp_path / "out"),
    )
    assert done.code == 0, done.err
    assert "about" in done.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "home" / "state" / "hvps" / "scratch-vms.json").exists()
    assert json.loads(hvps("sim", "list", "--folder", served.folder, "--json").out)["vms"] == []


def test_a_host_that_runs_no_scripts_makes_no_scratch_vm(hvps: Hvps, served: Served, tmp_path: Path) -> None:
    done = hvps(
        *("host", "prove", served.url, *served.connection, "--vm", "new", "--make"),
        *("--folder", tmp_path / "out"),
    )
    assert done.code != 0
    assert "engine powershell" in done.err
    assert json.loads((tmp_path / "home" / "state" / "hvps" / "scratch-vms.json").read_text())["vms"] == []


def test_a_half_made_scratch_vm_is_undone_and_then_made_again(
    hvps: Hvps, tmp_path: Path, scripted: Served
) -> None:
    command = (
        *("host", "prove", scripted.url, *scripted.connection, "--vm", "new", "--make", "--remove"),
        *("--disk-mib", "64", "--only", "facts"),
    )

    def names() -> list[str]:
        listed = json.loads(hvps("sim", "list", "--folder", scripted.folder, "--json").out)
        return [vm["name"] for vm in listed["vms"]]

    assert hvps("sim", "fault", "Add-VMHardDiskDrive", "--folder", scripted.folder).code == 0
    assert hvps(*command, "--folder", tmp_path / "one").code != 0
    assert names() == []
    # The session is lost in the middle: nobody undoes anything.
    assert hvps("sim", "fault", "Add-VMHardDiskDrive", "--folder", scripted.folder).code == 0
    assert hvps("sim", "fault", "Remove-VM", "--folder", scripted.folder).code == 0
    assert hvps(*command, "--folder", tmp_path / "two").code != 0
    assert names() == ["new"]
    done = hvps(*command, "--folder", tmp_path / "three")
    assert done.code == 0, done.err
    assert names() == []


def test_a_moved_scratch_vm_with_checkpoints_is_removed(hvps: Hvps, tmp_path: Path, scripted: Served) -> None:
    made = hvps(
        *("host", "prove", scripted.url, *scripted.connection, "--vm", "new", "--make", "--disk-mib", "64"),
        *("--generation", "2", "--only", "facts", "--folder", tmp_path / "out"),
    )
    assert made.code == 0, made.err
    (entry,) = ScratchLedger(tmp_path / "home" / "state" / "hvps").entries()
    password = (scripted.folder / "password").read_text().strip()
    with (
        HyperVHost.connect(basic(scripted.url, password=password)) as host,
        Control(scripted.folder) as control,
    ):
        scratch = HostScratch(host, entry, guest=False, pause=lambda seconds: True)
        assert len(control.vms()[0].disks) == 3  # no .vhd
        scratch.move_storage()
        scratch.user_checkpoint()
        scratch.move_storage()
        assert {disk.path.count("moved-") for disk in control.vms()[0].disks} == {1}
        scratch.user_checkpoint()
        assert scratch.remove() == ()
        assert control.vms() == ()


def test_what_restores_in_place_rely_on_is_probed(hvps: Hvps, tmp_path: Path, scripted: Served) -> None:
    made = hvps(
        *("host", "prove", scripted.url, *scripted.connection, "--vm", "new", "--make", "--disk-mib", "64"),
        *("--only", "facts", "--folder", tmp_path / "out"),
    )
    assert made.code == 0, made.err
    (entry,) = ScratchLedger(tmp_path / "home" / "state" / "hvps").entries()
    password = (scripted.folder / "password").read_text().strip()
    with (
        HyperVHost.connect(basic(scripted.url, password=password)) as host,
        Control(scripted.folder) as control,
    ):
        scratch = HostScratch(host, entry, guest=False, pause=lambda seconds: True)
        disks = control.vms()[0].disks
        facts = scratch.observe("Probe-Restore")
        named = {one.fact for one in EXPECTATIONS if one.fact.startswith("restore.")}
        assert named <= facts.keys()
        assert deviations(facts) == ()
        assert facts["restore.rename_codes"] == {"Before": 0, "Away": 0, "After": 0}
        assert facts["restore.renamed_files"] == ["", ".rct", ".mrt"]
        for knob in ("attached_flush_refusal", "ids_die_on_rename"):
            control.set_knob(knob, HOSTILE_TO_RESTORES[knob])
        control.set_knob("heartbeat_seconds", 3.0)
        facts = scratch.observe("Probe-Restore")
        knobs = [one.knob for one in deviations(facts)]
        assert knobs == ["attached_flush_refusal", "ids_die_on_rename", "heartbeat_seconds"]
        assert [seen["Heartbeat"] for seen in facts["restore.heartbeat_trace"]] == [2, 6]
        (vm,) = control.vms()
        assert vm.state == "off"
        assert [disk.path for disk in vm.disks] == [disk.path for disk in disks]
        # With a guest the disks are left alone.
        control.set_state(str(vm.vm_id), "start")
        facts = scratch.observe("Probe-Restore")
        assert facts.keys() == {"restore.heartbeat_trace", "restore.heartbeat_seconds"}
        assert control.vms()[0].state == "running"


@pytest.mark.soak
@pytest.mark.parametrize("how", ["signal", "lost host"])
def test_a_proof_that_ends_early_writes_its_facts(
    hvps: Hvps, tmp_path: Path, scripted: Served, how: str
) -> None:
    host = ("host", "prove", scripted.url, *scripted.connection, "--vm", "scratch")
    out = tmp_path / "out"
    proof = in_process(*host, "--make", "--disk-mib", "64", "--folder", out, "--json")
    assert proof.stderr is not None
    for line in proof.stderr:
        if line == "hvps: operations\n":
            break
    if how == "signal":
        proof.send_signal(signal.SIGINT)
    else:
        scripted.process.terminate()
    document = json.loads(proof.communicate(timeout=DEADLINE_SECONDS)[0])
    assert json.loads((out / "facts.json").read_text()) == document
    assert_valid("host prove", document)
    assert not document["proved"]
    code = {"signal": 130, "lost host": ExitCode.HOST_UNREACHABLE}[how]
    assert document["exit_code"] == proof.returncode == code
    assert {"facts", "probe Probe-Merge"} <= {
        row["stage"] for row in document["rows"] if row["verdict"] == "pass"
    }
    if how == "signal":
        again = hvps(*host, "--only", "facts", "--remove", "--folder", tmp_path / "again", "--json")
        assert again.code == 0, again.err
        assert {row["verdict"] for row in json.loads(again.out)["rows"]} == {"pass"}


def test_probes_are_written_as_single_files(hvps: Hvps, tmp_path: Path) -> None:
    done = hvps("host", "probes", tmp_path / "probes")
    assert done.code == 0
    written = sorted(path.name for path in (tmp_path / "probes").iterdir())
    assert "Probe-Checkpoint.ps1" in written
    assert "probe_wire.py" in written
    assert (tmp_path / "probes" / "linux" / "build").stat().st_mode & 0o111
    for name in (name for name in written if name.endswith(".ps1")):
        text = (tmp_path / "probes" / name).read_text(encoding="ascii")
        assert "#%" not in text
        assert ".SYNOPSIS" in text

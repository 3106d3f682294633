"""``hvps host check``, ``sweep`` and ``forget`` on a simulated host in another process."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.sim.control import Control
from hvpsbridge.tasks.planning.mark import Mark

from .conftest import Done, Hvps, Served, on_a_terminal, serving
from .world import World


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    return made


def host(world: World, *arguments: str) -> Done:
    """``hvps host ARGUMENTS`` with the options for the host and repository of the world."""
    name, *rest = arguments
    repository = () if name == "check" else ("--repo", str(world.repository))
    return world.hvps("host", name, world.served.url, *rest, *repository, *world.served.connection)


def document(done: Done) -> Any:
    return json.loads(done.out)


def left_by_a_run(world: World) -> str:
    """A checkpoint with the mark of hvps, as left by a run that was killed on a machine that is gone."""
    points = world.hvps("list", "--repo", world.repository, "--json")
    repository_id = UUID(json.loads(points.out)["repository_id"])
    mark = str(Mark(repository_id, uuid4(), datetime.now(UTC)))
    world.sim("checkpoint", world.vm, mark, "--recovery")
    return mark


def test_check_reports_whether_the_host_and_each_vm_can_be_backed_up(world: World) -> None:
    world.sim("create", "empty01")
    done = host(world, "check", "--json")
    assert done.code == 2, done.err
    checked = document(done)
    assert checked["findings"] == []
    assert {vm["vm"]: len(vm["findings"]) for vm in checked["vms"]} == {"web01": 0, "empty01": 1}
    states = {check["topic"]: check["state"] for check in checked["checks"]}
    assert set(states.values()) <= {"good", "unknown"}, checked["checks"]
    assert states["rights"] == states["disk"] == states["rate"] == states["compiler"] == "good"
    assert checked["rate"]["sent_bytes"] > 1 << 20
    (stored,) = [vm for vm in checked["vms"] if vm["vm"] == "web01"]
    assert [place["kind"] for place in stored["storage"]] == ["ntfs"]
    assert 0 < stored["full_seconds"] < 600
    shown = host(world, "check")
    assert "1 of 2 VMs can be backed up; fulls of all read" in shown.out
    assert re.search(r"^empty01 .* refuse +it has no virtual disk +exclude the VM", shown.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("knob", "value", "topic", "text"),
    [
        ("rights", "filtered", "rights", "LocalAccountTokenFilterPolicy"),
        ("rights", "hyperv_administrator", "rights", "Hyper-V Administrators can only make checkpoints"),
        ("rights", "user", "rights", "not an administrator"),
        ("no_volume_privilege", "on", "rights", "Perform volume maintenance tasks"),
        ("language_mode", "ConstrainedLanguage", "language mode", "refuses the scripts"),
    ],
)
def test_check_refuses_a_host_on_which_no_backup_works(
    world: World, knob: str, value: str, topic: str, text: str
) -> None:
    world.sim("knob", knob, value)
    done = host(world, "check", "--json")
    assert done.code == 14, done.err
    (refused,) = [check for check in document(done)["checks"] if check["state"] == "refuse"]
    assert refused["topic"] == topic
    assert text in f"{refused['text']} {refused['remedy']}"
    shown = host(world, "check").out
    assert "0 of " in shown or "its VMs were not looked at" in shown


def test_check_shows_what_a_host_does_not_answer(world: World) -> None:
    world.sim("fault", "OpenVirtualDisk:code=5", "1000")
    done = host(world, "check", "--json")
    assert done.code == 14, done.err
    (refused,) = [check for check in document(done)["checks"] if check["state"] == "refuse"]
    assert refused["topic"] == "disk"
    assert "ERROR_ACCESS_DENIED" in refused["text"]


def test_check_finds_shares_without_delegation_before_anything_is_made(world: World) -> None:
    with Control(world.served.folder) as control:
        control.create_vm("share01", folder=r"\\FS01\vms\share01")
        control.add_empty_disk("share01", 1 << 20)
    world.sim("knob", "smb_without_delegation", "on")
    done = host(world, "check", "--json")
    assert done.code == 2, done.err
    (vm,) = [vm for vm in document(done)["vms"] if vm["vm"] == "share01"]
    refused, note = vm["findings"]
    assert (refused["severity"], note["severity"]) == ("refuse", "note")
    assert "ERROR_ACCESS_DENIED" in refused["text"]
    assert "delegation" in refused["remedy"]
    assert r"no free space is known for \\fs01\vms" in note["text"]
    world.sim("knob", "smb_without_delegation", "off")
    assert host(world, "check").code == 0


def test_check_names_rules_of_defender_and_limits_it_cannot_read(world: World) -> None:
    world.sim("knob", "defender", "5beb7efe-fd9a-4556-801d-275e5ffc04cc=1")
    world.sim("knob", "shells_per_user", "5")
    limited = document(host(world, "check", "--json"))
    (shells,) = [check for check in limited["checks"] if check["topic"] == "MaxShellsPerUser"]
    assert (shells["state"], limited["limits"]["shells_per_user"]) == ("note", 5)
    assert "set it to 30 or more" in shells["remedy"]
    world.sim("knob", "config_unreadable", "on")
    done = host(world, "check", "--json")
    assert done.code == 0, done.err
    checks = {check["topic"]: check for check in document(done)["checks"]}
    assert "blocks scripts that look obfuscated" in checks["protection"]["text"]
    assert (checks["protection"]["state"], checks["limits"]["state"]) == ("note", "unknown")
    assert document(done)["limits"]["shells_per_user"] is None


def test_sweep_shows_first_and_removes_only_what_ended_runs_left(world: World) -> None:
    world.sim("checkpoint", world.vm, "a user's")
    assert world.run().code == 0
    mark = left_by_a_run(world)
    with Control(world.served.folder) as control:
        foreign = control.add_reference_point(world.vm)
    before = world.on_host()
    dry = host(world, "sweep", "--dry-run", "--json")
    assert dry.code == 6, dry.err
    (vm,) = document(dry)["vms"]
    assert {(thing["kind"], thing["whose"]) for thing in vm["things"]} == {
        ("checkpoint", "leftover"),
        ("reference point", "needed"),
        ("reference point", "foreign"),
    }
    assert vm["left"] == [f"checkpoint {mark}"]
    assert world.on_host() == before
    unasked = host(world, "sweep")
    assert unasked.code == 64
    assert "use --yes or --dry-run" in unasked.err
    assert world.on_host() == before
    swept = host(world, "sweep", "--yes")
    assert swept.code == 0, swept.err
    assert f"web01: removed recovery checkpoint '{mark}'" in swept.out
    after = world.on_host()
    assert (after["checkpoints"], after["reference_points"]) == (1, 2)
    again = host(world, "sweep", "web01", "--yes")
    assert (again.code, ": clean (exit 0)" in again.out) == (0, True)
    assert foreign in again.out
    world.guest_writes()
    assert world.run("--json").code == 0
    assert world.assert_every_point_restores_equal() == 2


def test_forget_asks_and_then_removes_our_reference_points_only(world: World) -> None:
    assert world.run().code == 0
    with Control(world.served.folder) as control:
        control.add_reference_point(world.vm)
    command = (
        *("host", "forget", world.served.url, world.vm, "--repo", str(world.repository)),
        *world.served.connection,
    )
    refused = on_a_terminal(*command, answers=["n"])
    assert (refused.code, "nothing was changed" in refused.out) == (0, True)
    assert world.on_host()["reference_points"] == 2
    agreed = on_a_terminal(*command, answers=["y"])
    assert agreed.code == 0, agreed.out
    assert world.on_host()["reference_points"] == 1
    assert len(world.points()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("forget",), 64, "VM"),
        (("forget", "nobody", "--yes"), 5, "nobody"),
        (("sweep", "--ours", "x", "--yes"), 64, "no unclear object has the id x"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    world: World, arguments: tuple[str, ...], code: int, what: str
) -> None:
    done = host(world, *arguments)
    assert done.code == code
    assert what in done.err


def test_a_sweep_works_on_the_real_engine(
    hvps: Hvps, tmp_path: Path, pwsh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVPS_PWSH", str(pwsh))
    with serving(tmp_path / "world", "--engine", "powershell") as served:
        world = World(hvps, served, tmp_path)
        world.build("web01")
        left_by_a_run(world)
        done = host(world, "sweep", "--yes", "--json")
        assert done.code == 0, done.err
        (vm,) = document(done)["vms"]
        assert [thing["whose"] for thing in vm["things"]] == ["leftover"]
        assert world.on_host()["checkpoints"] == 0


def test_a_check_works_on_the_real_engine(
    hvps: Hvps, tmp_path: Path, pwsh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVPS_PWSH", str(pwsh))
    with serving(tmp_path / "world", "--engine", "powershell") as served:
        world = World(hvps, served, tmp_path)
        world.build("web01")
        done = host(world, "check", "--json")
        assert done.code == 0, done.err
        checks = {check["topic"]: check["state"] for check in document(done)["checks"]}
        assert checks["rights"] == checks["compiler"] == checks["disk"] == checks["rate"] == "good"
        assert set(checks.values()) <= {"good", "unknown"}

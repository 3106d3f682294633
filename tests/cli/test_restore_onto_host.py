"""``hvps restore --to hyperv:HOST`` on a simulated host in another process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Done, Hvps, Served
from .world import World


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    assert made.run().code in (0, 6), "the backup"
    return made


def restore(world: World, *options: str) -> Done:
    to = f"hyperv:{world.served.url}"
    repository = ("--repo", str(world.repository), *world.key)
    return world.hvps("restore", "web01", "--to", to, *options, *repository, *world.served.connection)


def vms(world: World) -> list[str]:
    return [vm["name"] for vm in world.sim("list", "--json")["vms"]]


def test_a_point_becomes_a_new_vm_once(world: World) -> None:
    done = restore(world, "--name", "it's [new]", "--path", "C:\\Räume", "--json")
    assert done.code == 0, done.err
    found = json.dumps(json.loads(done.out))
    assert "made VM it's [new]" in found
    path = "\\it's [new]\\Virtual Hard Disks\\scsi-0-0.vhdx"
    assert json.dumps(path)[1:-1] in found
    assert sorted(vms(world)) == ["it's [new]", "web01"]
    repository = ("--repo", str(world.repository), *world.key)
    checked = world.hvps("host", "check", world.served.url, "--json", *repository, *world.served.connection)
    (row,) = [row for row in json.loads(checked.out)["checks"] if row["topic"] == "restores"]
    assert row["state"] == "good"
    again = restore(world, "--name", "it's [new]", "--path", "C:\\Räume")
    assert again.code == 5
    assert "exists; choose another --name" in again.out + again.err


def test_options_of_a_host_need_one(world: World) -> None:
    done = world.hvps("restore", "web01", "--to", "raw:/x", "--name", "y", "--repo", world.repository)
    assert done.code == 64
    assert "name is for hyperv:HOST" in done.err


def test_a_full_volume_leaves_nothing(world: World) -> None:
    world.sim("fault", "SetEndOfFile:code=112")
    done = restore(world, "--name", "copy")
    assert done.code != 0
    assert "ERROR_DISK_FULL" in done.out + done.err
    assert vms(world) == ["web01"]
    assert restore(world, "--name", "copy").code == 0


def test_a_vm_is_restored_into_its_own_disks_undone_and_forgotten(world: World) -> None:
    refused = restore(world, "--replace")
    assert refused.code == 5
    assert "the VM is running; shut it down first" in refused.out + refused.err
    world.sim("state", "web01", "stop")
    done = restore(world, "--replace")
    assert done.code == 0, done.err
    assert "VM web01 holds the point; it is off" in done.out + done.err
    where = (world.served.url, "web01", "--repo", str(world.repository), *world.key, *world.served.connection)
    undone = world.hvps("host", "undo", *where)
    assert undone.code == 0, undone.err
    assert "are what they were before the restore" in undone.out + undone.err
    assert world.hvps("host", "undo", *where).code == 5
    assert restore(world, "--replace").code == 0
    again = restore(world, "--replace")
    assert again.code == 5
    assert "hvps host forget" in again.out + again.err
    forgotten = world.hvps("host", "forget", *where, "--yes")
    assert forgotten.code == 0, forgotten.err
    assert "before-restore.vhdx" in forgotten.out + forgotten.err
    assert restore(world, "--replace").code == 0


def test_options_of_a_restore_in_place_need_it(world: World) -> None:
    for options in (("--remove-checkpoints",), ("--discard-saved-state",), ("--replace", "--name", "x")):
        assert restore(world, *options).code == 64


def test_a_vm_comes_from_its_configuration_and_what_is_left_is_swept(world: World) -> None:
    world.sim("fault", "Msvm_VirtualSystemManagementService.ModifySystemSettings:error=failed")
    world.sim("fault", "Msvm_VirtualSystemManagementService.DestroySystem:error=failed")
    failed = restore(world, "--name", "copy", "--from-config")
    assert failed.code != 0
    assert "the renaming was refused" in failed.out + failed.err
    # It has no mark, so a user decides.
    on_host = (world.served.url, "--repo", str(world.repository), *world.key, *world.served.connection)
    listed = world.hvps("host", "sweep", "--dry-run", *on_host)
    (line,) = [each for each in listed.out.splitlines() if each.startswith("planned VM 'web01'")]
    planned_id = line.rpartition("(")[2].rstrip(")")
    unclear = world.hvps("host", "sweep", "--yes", *on_host)
    assert f"({planned_id}) was made by restore" in unclear.out + unclear.err
    assert unclear.code != 0
    swept = world.hvps("host", "sweep", "--yes", "--ours", planned_id, *on_host)
    assert swept.code == 0, swept.out + swept.err
    assert "removed planned VM 'web01'" in swept.out + swept.err
    done = restore(world, "--name", "copy", "--from-config")
    assert done.code == 0, done.err
    assert sorted(vms(world)) == ["copy", "web01"]
    clash = restore(world, "--name", "again", "--from-config", "--new-tpm")
    assert clash.code == 64
    assert "from_config takes the vTPM as it is" in clash.err


def test_a_playbook_makes_a_vm_on_a_host(world: World) -> None:
    tasks = '[{restore: {to: "hyperv:hv01", name: "{{ vm }} drill"}}]'
    done = world.run(tasks=tasks)
    assert done.code == 0, done.out + done.err
    assert sorted(vms(world)) == ["web01", "web01 drill"]
    again = world.run(tasks=tasks)
    assert again.code == 5
    assert "exists; choose another" in again.out + again.err
    assert sorted(vms(world)) == ["web01", "web01 drill"]


@pytest.mark.parametrize(
    ("restore", "said"),
    [
        ("{to: 'hyperv:hv9'}", "no host 'hv9' in this file"),
        ("{to: 'raw:/x', start: true}", "start is for hyperv:HOST"),
        ("{to: 'hyperv:hv01', remove_checkpoints: true}", "remove_checkpoints is for replace"),
        ("{to: 'hyperv:hv01', replace: true, name: x}", "without name"),
        ("{to: 'hyperv:hv01', from_config: true, new_tpm: true}", "without new_tpm"),
        ("{to: 'hyperv:hv01', from_config: true, replace: true}", "without from_config"),
        ("{to: 'hyperv:'}", "is not a target"),
    ],
)
def test_a_playbook_says_what_does_not_fit(
    hvps: Hvps, served: Served, tmp_path: Path, restore: str, said: str
) -> None:
    done = hvps("validate", World(hvps, served, tmp_path).playbook(tasks=f"[{{restore: {restore}}}]"))
    assert done.code == 5
    assert said in done.out + done.err


def test_drills_of_several_vms_run_at_the_same_time(hvps: Hvps, served: Served, tmp_path: Path) -> None:
    world = World(hvps, served, tmp_path)
    world.build("web01", "web02")
    both = '["*"]'
    assert world.run(vms=both).code in (0, 6), "the backup"
    done = world.run("--json", vms=both, tasks="[restore_drill]")
    assert done.code == 0, done.out + done.err
    tasks = json.loads(done.out)["tasks"]
    assert [task["task"] for task in tasks] == ["restore_drill"] * 2
    assert all("showed a heartbeat" in task["restore_drill"]["notes"][0] for task in tasks)
    assert sorted(vms(world)) == ["web01", "web02"]
    assert all("restored" in {proof["level"] for proof in point["proofs"]} for point in world.points())
    refused = world.run(vms=both, tasks="[{restore_drill: {host: hv9}}]")
    assert refused.code == 5
    assert "no host 'hv9' in this file" in refused.err

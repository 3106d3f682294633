"""Which VMs the conformance kit touches: those in its ledger that carry their own mark."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.tasks.prove.scratch import FILE_NAME, ScratchLedger, mark_of, require_scratch
from tests.tasks.prove.model_scratch import scratch_vm
from tests.tasks.world import World


def require(world: World, vm_id: UUID, ledger: ScratchLedger) -> object:
    with world.host() as host:
        return require_scratch(host, host.host_info(), host.vm(vm_id), ledger)


def test_a_vm_in_the_ledger_with_its_mark_is_a_scratch_vm(world: World, tmp_path: Path) -> None:
    vm_id, entry = scratch_vm(world, ScratchLedger(tmp_path))
    assert require(world, vm_id, ScratchLedger(tmp_path)) == entry


def test_a_copied_name_makes_no_scratch_vm(world: World, tmp_path: Path) -> None:
    ledger = ScratchLedger(tmp_path)
    scratch_vm(world, ledger)
    with pytest.raises(ConfigurationError, match="not in the ledger"):
        require(world, world.vm("scratch", folder="D:\\copy"), ledger)


def test_copied_notes_make_no_scratch_vm(world: World, tmp_path: Path) -> None:
    ledger = ScratchLedger(tmp_path)
    vm_id, entry = scratch_vm(world, ledger)
    copy = world.vm("scratch", folder="D:\\copy", notes=mark_of(vm_id, entry.token))
    with pytest.raises(ConfigurationError, match="not in the ledger"):
        require(world, copy, ledger)
    # Even in the ledger the notes of another VM are not its mark.
    ledger.made(ledger.begin(_info(world), "scratch"), copy)
    with pytest.raises(ConfigurationError, match="does not have its mark"):
        require(world, copy, ledger)


def test_a_vm_that_lost_its_mark_is_refused(world: World, tmp_path: Path) -> None:
    ledger = ScratchLedger(tmp_path)
    vm_id, _ = scratch_vm(world, ledger)
    world.model.setup.change_vm(vm_id, notes="somebody took it over")
    with pytest.raises(ConfigurationError, match="does not have its mark"):
        require(world, vm_id, ledger)


def test_the_same_id_on_another_host_is_refused(world: World, tmp_path: Path) -> None:
    ledger = ScratchLedger(tmp_path)
    vm_id, _ = scratch_vm(world, ledger)
    document = json.loads((tmp_path / FILE_NAME).read_text())
    document["vms"][0]["host"] = "other -"
    (tmp_path / FILE_NAME).write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="not in the ledger"):
        require(world, vm_id, ledger)


def test_a_ledger_that_cannot_be_read_knows_no_scratch_vm(world: World, tmp_path: Path) -> None:
    ledger = ScratchLedger(tmp_path)
    vm_id, _ = scratch_vm(world, ledger)
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        require(world, vm_id, ledger)


def _info(world: World) -> object:
    with world.host() as host:
        return host.host_info()

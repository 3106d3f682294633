"""Answers that raise what nothing expects: what may be left is reported, and other hosts do not matter."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ExitCode, InternalError, Interrupted, ProtocolViolation
from hvpsbridge.formats.ledger import LedgerKind
from hvpsbridge.tasks.cleanup.shells import end_shells
from tests.tasks import builders as make
from tests.tasks.model_host import ModelHost
from tests.tasks.world import Steps, World


def odd(*arguments: object) -> None:
    raise RecursionError("too deep")


@pytest.mark.parametrize("step", ["READ", "COMMIT"])
def test_an_undo_that_ends_unexpectedly_reports_what_may_be_left(world: World, step: str) -> None:
    vm_id = world.vm()

    def break_host() -> None:
        world.before = odd

    result = world.backup(vm_id, observer=Steps((step, "before"), break_host))
    assert isinstance(result.error, InternalError)
    assert any("recovery checkpoint" in left for left in result.leftovers)


def test_a_watch_that_gets_an_odd_answer_goes_on(world: World) -> None:
    vm_id = world.vm()
    asked: list[str] = []

    def before(name: str) -> None:
        if name == "Get-HvpsVolume" and (asked.append(name) or len(asked) > 1):  # type: ignore[func-returns-value]
            odd()

    world.before = before
    result = world.backup(vm_id, watch_seconds=0.001)
    assert result.error is None
    world.assert_clean(vm_id)


def entry(host: str) -> object:
    return make.entry(LedgerKind.RUN_STARTED, host=host, shell_id=str(uuid4()))


def context(connect: object) -> SimpleNamespace:
    warnings: list[str] = []
    return SimpleNamespace(
        host=SimpleNamespace(name="HV01"),
        vm_id=UUID(int=1),
        connect_to=connect,
        warn=warnings.append,
        warned=warnings,
    )


def test_the_shells_of_another_host_do_not_end_the_clean_up() -> None:
    cleanup = context(odd)
    end_shells(cleanup, [entry("HV02")])  # type: ignore[arg-type,list-item]
    (warning,) = cleanup.warned
    assert "HV02" in warning
    assert "RecursionError" in warning


def test_a_signal_ends_the_clean_up_of_shells() -> None:
    def stop(name: str) -> None:
        raise Interrupted("SIGTERM")

    with pytest.raises(Interrupted):
        end_shells(context(stop), [entry("HV02")])  # type: ignore[arg-type,list-item]


def test_a_value_that_no_point_can_have_is_the_hosts_fault_and_not_the_storages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm()
    info = ModelHost.host_info
    monkeypatch.setattr(ModelHost, "host_info", lambda self: replace(info(self), os_build=(1 << 64) - 1))
    result = world.backup(vm_id)
    assert isinstance(result.error, ProtocolViolation)
    assert result.exit_code is ExitCode.VM_FAILED
    assert not result.leftovers
    assert not world.model.checkpoints.all(vm_id, hidden=True)

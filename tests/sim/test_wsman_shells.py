"""Stock pypsrp against the simulated host's WSMan service with the real engine behind it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import SelectorSet, WSMan

from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from hvpsbridge.sim.wsman.outbox import HARD_BYTES, SOFT_BYTES, Outbox
from hvpsbridge.sim.wsman.shells import Quotas
from hvpsbridge.units import MIB

SHELL_URI = "http://schemas.microsoft.com/powershell/Microsoft.PowerShell"


def connect(host: PowerShellHost, **options: object) -> WSMan:
    settings = {
        "username": "backup",
        "password": "p:ss",
        "auth": "basic",
        "encryption": "never",
        "ssl": False,
    }
    return WSMan("127.0.0.1", port=host.listener.port, **{**settings, **options})  # type: ignore[arg-type]


def run(pool: RunspacePool, script: str, **parameters: object) -> PowerShell:
    shell = PowerShell(pool)
    shell.add_script(script)
    for name, value in parameters.items():
        shell.add_parameter(name, value)
    shell.invoke()
    shell.close()
    return shell


@pytest.fixture(scope="module")
def host(pwsh: object) -> Iterator[PowerShellHost]:
    quotas = Quotas(shells_per_user=3)
    with PowerShellHost(users={"backup": Secret("p:ss"), "other": Secret("x")}, quotas=quotas) as running:
        yield running


@pytest.fixture
def pool(host: PowerShellHost) -> Iterator[RunspacePool]:
    with connect(host) as wsman, RunspacePool(wsman) as opened:
        yield opened


def test_a_script_gives_its_output_and_its_errors(pool: RunspacePool) -> None:
    shell = run(pool, "param($n) 1..$n; Write-Error boo", n=3)
    assert shell.output == [1, 2, 3]
    assert "boo" in str(shell.streams.error[0])
    assert not shell.had_errors


def test_a_terminating_error_fails_the_pipeline_and_leaves_the_shell_usable(pool: RunspacePool) -> None:
    shell = run(pool, "throw 'no'")
    assert shell.had_errors
    assert shell.streams.error[0].fq_error == "no"
    assert run(pool, "42").output == [42]


def test_input_reaches_a_running_pipeline_object_by_object(pool: RunspacePool) -> None:
    shell = PowerShell(pool)
    shell.add_script("process { $_ * 2 }")
    assert shell.invoke(iter_of(1, 2, 3)) == [2, 4, 6]


def iter_of(*values: object) -> Iterator[object]:
    yield from values


def test_bulk_arrives_whole_and_in_order_within_the_envelope_asked_for(pool: RunspacePool) -> None:
    script = "param($n) for ($i = 0; $i -lt $n; $i++) { [pscustomobject]@{ Block = [byte[]](,$i * 300000) } }"
    shell = run(pool, script, n=5)
    blocks = [thing.adapted_properties or thing.extended_properties for thing in shell.output]
    assert [block["Block"] for block in blocks] == [bytes([i]) * 300000 for i in range(5)]


def test_a_running_pipeline_can_be_stopped(pool: RunspacePool) -> None:
    shell = PowerShell(pool)
    shell.add_script("'begun'; Start-Sleep -Seconds 600")
    shell.begin_invoke()
    # PowerShell forgets a stop that comes before the pipeline has begun.
    while not shell.output:
        shell.poll_invoke()
    shell.stop()  # which would take 600 s otherwise
    shell.close()
    assert run(pool, "'alive'").output == ["alive"]


def test_nothing_to_say_within_the_operation_timeout_is_the_fault_that_means_poll_again(
    host: PowerShellHost, tmp_path: Path
) -> None:
    speak = tmp_path / "speak"
    with connect(host) as wsman, RunspacePool(wsman) as pool:
        shell = PowerShell(pool)
        shell.add_script(f"while (-not (Test-Path '{speak}')) {{ Start-Sleep -Milliseconds 50 }}; 'late'")
        shell.begin_invoke()
        with pytest.raises(WSManFaultError) as caught:
            pool._receive(shell.id, timeout=1)
        assert caught.value.code == 2150858793
        speak.touch()
        assert shell.end_invoke() == ["late"]


def test_shells_are_listed_for_their_owner_only(host: PowerShellHost, pool: RunspacePool) -> None:
    with connect(host) as wsman:
        assert [known.id for known in RunspacePool.get_runspace_pools(wsman)] == [pool.id]
    with connect(host, username="OTHER", password="x") as wsman:
        assert RunspacePool.get_runspace_pools(wsman) == []


def test_a_shell_outlives_its_client_and_is_ended_by_id_from_another_connection(host: PowerShellHost) -> None:
    wsman = connect(host)
    lost = RunspacePool(wsman)
    lost.open()
    (process_id,) = run(lost, "$PID").output
    wsman.close()
    selectors = SelectorSet()
    selectors.add_option("ShellId", lost.id)
    with connect(host) as later:
        assert lost.id in [known.id for known in RunspacePool.get_runspace_pools(later)]
        later.delete(SHELL_URI, selector_set=selectors)
        assert lost.id not in [known.id for known in RunspacePool.get_runspace_pools(later)]
        with pytest.raises(WSManFaultError) as caught:
            later.delete(SHELL_URI, selector_set=selectors)
    assert caught.value.code == 0x8033805B
    assert not process_exists(process_id)


def process_exists(process_id: int) -> bool:
    import os

    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_shell_more_than_allowed_is_refused(host: PowerShellHost) -> None:
    with connect(host) as wsman:
        pools = [RunspacePool(wsman) for _ in range(4)]
        for pool in pools[:3]:
            pool.open()
        with pytest.raises(WSManFaultError) as caught:
            pools[3].open()
        assert caught.value.code == 0x803381A5
        for pool in pools[:3]:
            pool.close()


def test_a_wrong_password_is_refused(host: PowerShellHost) -> None:
    with connect(host, password="wrong") as wsman, pytest.raises(AuthenticationError):
        RunspacePool(wsman).open()


def test_more_than_10_mib_in_one_object_ends_the_pipeline(pool: RunspacePool) -> None:
    shell = PowerShell(pool)
    shell.add_script("process { $_.Length }")
    with pytest.raises(WSManFaultError, match="object size"):
        shell.begin_invoke(iter_of(b"x" * (8 << 20)))
    assert run(pool, "'alive'").output == ["alive"]


def test_an_unknown_shell_is_the_fault_that_means_start_anew(host: PowerShellHost) -> None:
    selectors = SelectorSet()
    selectors.add_option("ShellId", str(uuid.uuid4()))
    with connect(host) as wsman, pytest.raises(WSManFaultError) as caught:
        wsman.delete(SHELL_URI, selector_set=selectors)
    assert caught.value.code == 0x8033805B


EMIT = """
param($n) $block = [byte[]]::new(1048576)
for ($i = 0; $i -lt $n; $i++) { [pscustomobject]@{ Number = $i; Block = $block } }
"""


def test_a_client_that_stops_reading_makes_the_host_wait(host: PowerShellHost) -> None:
    with connect(host) as wsman, RunspacePool(wsman, max_runspaces=2) as pool:
        shell = PowerShell(pool)
        shell.add_script(EMIT).add_parameter("n", 24)
        shell.begin_invoke()
        (kept,) = [known for known in host.service.shells.all() if known.shell_id == pool.id]
        waiting = wait_until_steady(kept.outbox)
        assert SOFT_BYTES < waiting < SOFT_BYTES + 1 * MIB
        # Another pipeline of the same process is not held up by the one that nobody reads.
        assert run(pool, "'alive'").output == ["alive"]
        assert [item.extended_properties["Number"] for item in shell.end_invoke()] == list(range(24))
        assert kept.outbox.peak_bytes < HARD_BYTES


def wait_until_steady(outbox: Outbox) -> int:
    seen = -1
    while outbox.peak_bytes != seen or seen < SOFT_BYTES:
        seen = outbox.peak_bytes
        time.sleep(0.5)
    return seen

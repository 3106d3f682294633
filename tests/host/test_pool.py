"""A shell opens within a time, or not at all."""

from __future__ import annotations

import time

import pytest
import requests

from hvpsbridge import stopping
from hvpsbridge.errors import Interrupted
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.psrp import pool as pool_module
from hvpsbridge.host.psrp.client import new_wsman
from hvpsbridge.host.psrp.pool import BoundedPool
from hvpsbridge.secret import Secret

CONNECTION = HostConnection(
    name="hv", address="http://127.0.0.1:1", user="u", password=Secret("p"), auth=Authentication.BASIC
)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> BoundedPool:
    """A pool whose host answers every Receive at once, and with nothing."""
    monkeypatch.setattr(pool_module, "OPEN_SECONDS", 0.3)
    made = BoundedPool(new_wsman(CONNECTION))

    def receive(*names: object, **options: object) -> tuple[object, object, dict[str, bytes]]:
        time.sleep(0.01)
        return None, None, {"stdout": b""}

    monkeypatch.setattr(made.shell, "open", lambda *parts: None)
    monkeypatch.setattr(made.shell, "receive", receive)
    return made


def test_a_shell_that_does_not_open_is_given_up(silent: BoundedPool) -> None:
    with pytest.raises(requests.ReadTimeout, match="did not open in time"):
        silent.open()


def test_opening_a_shell_can_be_stopped(silent: BoundedPool) -> None:
    def stop() -> None:
        raise Interrupted("SIGTERM")

    with stopping.checked_by(stop), pytest.raises(Interrupted):
        silent.open()

"""What a proof makes later backups trust."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hvpsbridge.formats.ids import IdWay
from hvpsbridge.tasks.host_records import HostRecords
from hvpsbridge.tasks.prove.prover import SCHEMA, ProveResult
from hvpsbridge.tasks.prove.remember import remember
from tests.tasks.world import World

EQUAL, COVERED, GUEST = "reference_point.ids_equal_frozen", "window.covered", "window.by_guest"
SHOWN = {EQUAL: False, COVERED: True, GUEST: True, "cycle.increments": True, "proof.lied_chunks": 0}


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({}, IdWay.REFERENCE),
        ({EQUAL: True}, IdWay.FROZEN),
        ({EQUAL: None}, None),  # the first frozen disk showed no id
        ({GUEST: False}, None),  # the VM was off
        ({GUEST: None}, None),
        ({COVERED: None}, None),
        ({COVERED: False}, None),
        ({"cycle.increments": False}, None),
        ({"proof.lied_chunks": 1}, None),
    ],
    ids=str,
)
def test_ids_of_reference_points_need_a_guest_that_wrote_in_the_window(
    world: World, changes: dict[str, Any], way: IdWay | None
) -> None:
    facts = {name: value for name, value in {**SHOWN, **changes}.items() if value is not None}
    result = ProveResult(
        schema=SCHEMA,
        host="hv01",
        vm="scratch",
        started=datetime.now(UTC),
        seconds=1.0,
        rows=(),
        facts=facts,
        deviations=(),
        proved=True,
    )
    records = HostRecords()
    with world.host() as host:
        info = host.host_info()
    remember(records, info, result)
    assert records.load(info).proved is not None
    assert records.load(info).way is way

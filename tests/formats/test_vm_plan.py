"""Plans of new VMs: what a definition of any form becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.vm_plan import PlannedDisk, PlanOptions, left_out, needs_of, vm_plan

OPTIONS = PlanOptions(mark="mark")
GOOD: dict[str, Any] = {
    "vm": {"Generation": 2, "Version": "10.0", "Notes": "n", "IsClustered": True},
    "memory": {"Startup": 1 << 30, "DynamicMemoryEnabled": False, "Minimum": 5},
    "processor": {"Count": 2},
    "security": {"TpmEnabled": True, "Shielded": True},
    "dvd": [{"Path": None}],
    "disks": [{"SupportPersistentReservations": True, "MaximumIOPS": 7}],
    "network": [
        {
            **{"Name": "lan", "AdapterId": "A1", "SwitchName": "S", "MacAddress": "00155D000001"},
            **{"DynamicMacAddressEnabled": False, "Vlan": {"OperationMode": 1}},
        }
    ],
    "firmware": {
        **{"SecureBoot": 0, "SecureBootTemplate": "MicrosoftWindows"},
        "BootOrder": [
            {"BootType": 3},
            {"BootType": 2, "Device": {"AdapterId": "A1"}},
            {
                "BootType": 1,
                "Device": {"ControllerType": 1, "ControllerNumber": 0, "ControllerLocation": 4},
            },
        ],
    },
}


def planned(definition: object, *disks: PlannedDisk, options: PlanOptions = OPTIONS) -> Any:
    return json.loads(vm_plan(json.dumps(definition), disks, options))


def test_adapters_are_connected_and_keep_addresses_on_request_only() -> None:
    (adapter,) = planned(GOOD)["adapters"]
    assert (adapter["SwitchName"], adapter["StaticMacAddress"]) == (None, None)
    kept = planned(GOOD, options=PlanOptions(mark="m", connect_network=True, keep_macs=True))
    assert (kept["adapters"][0]["SwitchName"], kept["adapters"][0]["StaticMacAddress"]) == (
        "S",
        "00155D000001",
    )
    assert needs_of(json.dumps(kept)).switches == ("S",)


def test_the_boot_order_names_slots_and_adapters() -> None:
    assert planned(GOOD)["boot"] == [
        {"adapter": "lan", "type": None, "number": None, "location": None},
        {"adapter": None, "type": 1, "number": 0, "location": 4},
    ]


def test_there_are_as_many_controllers_as_disks_need() -> None:
    assert planned(GOOD, PlannedDisk("scsi 2:1", "x"))["scsi_controllers"] == 3
    with pytest.raises(ValueError, match="neither IDE nor SCSI"):
        planned(GOOD, PlannedDisk("pmem 0:0", "x"))


def test_what_is_left_out_is_said() -> None:
    said = left_out(json.dumps(GOOD))
    for word in ("TPM", "shielding", "DVD", "VLAN", "sharing", "limits", "BOOTX64", "cluster"):
        assert any(word in line for line in said), word
    assert left_out("not JSON") == ()


@pytest.mark.parametrize("definition", [{}, {"vm": {"Generation": 3}}, {"vm": {"Generation": 2}}, []])
def test_a_definition_without_the_essentials_is_refused(definition: object) -> None:
    with pytest.raises(ValueError, match="lacks generation or memory"):
        planned(definition)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_values_of_any_form_are_taken_or_left_out(data: st.DataObject) -> None:
    definition = json.loads(json.dumps(GOOD))
    section = data.draw(st.sampled_from(sorted(definition)))
    if isinstance(definition[section], dict) and data.draw(st.booleans()):
        definition[section][data.draw(st.sampled_from(sorted(definition[section])))] = data.draw(_VALUES)
    else:
        definition[section] = data.draw(_VALUES)
    left_out(json.dumps(definition))
    try:
        plan = planned(definition, PlannedDisk("scsi 0:0", "x"))
    except ValueError:
        return
    assert plan["generation"] in (1, 2)
    assert isinstance(plan["notes"], str)
    needs_of(json.dumps(plan))

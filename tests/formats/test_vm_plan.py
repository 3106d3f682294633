"""Plans of new VMs: what a definition of any form becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.vm_devices import PlannedDisk
from hvpsbridge.formats.vm_plan import PlanOptions, isos_in, left_out, needs_of, vm_plan

OPTIONS = PlanOptions(mark="mark")
GOOD: dict[str, Any] = {
    "vm": {"Generation": 2, "Version": "10.0", "Notes": "n", "IsClustered": True},
    "memory": {"Startup": 1 << 30, "DynamicMemoryEnabled": False, "Minimum": 5},
    "processor": {"Count": 2},
    "security": {"TpmEnabled": True, "Shielded": True},
    "key_protector": "AQIDBAU=",
    "dvd": [
        {"ControllerType": 1, "ControllerNumber": 1, "ControllerLocation": 2, "Path": "C:\\a.iso"},
        {"ControllerType": 1, "ControllerNumber": 0, "ControllerLocation": 3, "Path": None},
        {"ControllerType": 1, "ControllerNumber": 99, "ControllerLocation": 3, "Path": None},
        {"ControllerType": 0, "ControllerNumber": 0, "ControllerLocation": 0, "Path": None},
    ],
    "disks": [
        {
            **{"ControllerType": 1, "ControllerNumber": 0, "ControllerLocation": 1},
            **{"SupportPersistentReservations": True, "MinimumIOPS": 0, "MaximumIOPS": 7},
            "QoSPolicyID": "12345678-0000-0000-0000-000000000000",
        }
    ],
    "network": [
        {
            **{"Name": "lan", "AdapterId": "A1", "SwitchName": "S", "MacAddress": "00155D000001"},
            **{"DynamicMacAddressEnabled": False, "Vlan": {"OperationMode": 1, "AccessVlanId": 7}},
            **{"DhcpGuard": 0, "RouterGuard": 1, "VMQWeight": 50, "StormLimit": "x"},
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
    for word in ("vTPM", "shielding", "sharing", "policy", "BOOTX64", "cluster"):
        assert any(word in line for line in said), word
    assert left_out("not JSON") == ()


def test_drives_have_what_the_host_has() -> None:
    options = PlanOptions(mark="m", isos=("C:\\a.iso",))
    assert planned(GOOD, options=options)["dvd"] == [
        {"ControllerNumber": 1, "ControllerLocation": 2, "Path": "C:\\a.iso"},
        {"ControllerNumber": 0, "ControllerLocation": 3, "Path": None},
    ]
    assert [drive["Path"] for drive in planned(GOOD)["dvd"]] == [None, None]
    assert planned(GOOD)["scsi_controllers"] == 2
    assert isos_in(json.dumps(GOOD)) == ("C:\\a.iso",)
    limits = [
        disk["limits"] for disk in planned(GOOD, *(PlannedDisk(f"scsi 0:{n}", "x") for n in (0, 1)))["disks"]
    ]
    assert limits == [None, {"MaximumIOPS": 7}]


def test_limits_of_the_bandwidth_are_set_one_by_one() -> None:
    limits = {"MaximumBandwidth": 10**9, "MinimumBandwidthAbsolute": 0, "MinimumBandwidthWeight": 5}
    for bandwidth, wanted in (
        (limits, [{"MaximumBandwidth": 10**9}, {"MinimumBandwidthWeight": 5}]),
        (None, []),
        ("hostile", []),
        ({"MaximumBandwidth": -1, "MinimumBandwidthWeight": "5"}, []),
    ):
        definition = {**GOOD, "network": [{**GOOD["network"][0], "Bandwidth": bandwidth}]}
        (adapter,) = planned(definition)["adapters"]
        assert adapter["bandwidth"] == wanted


@pytest.mark.parametrize(
    ("vlan", "wanted"),
    [
        ({"OperationMode": 0}, None),
        ({"OperationMode": 1, "AccessVlanId": 7}, {"Access": True, "VlanId": 7}),
        (
            {"OperationMode": 2, "NativeVlanId": 1, "AllowedVlanIdListString": "1-9"},
            {"Trunk": True, "NativeVlanId": 1, "AllowedVlanIdList": "1-9"},
        ),
        (
            {"OperationMode": 3, "PrivateVlanMode": 2, "PrimaryVlanId": 1, "SecondaryVlanId": 2},
            {"Community": True, "PrimaryVlanId": 1, "SecondaryVlanId": 2},
        ),
        ({"OperationMode": 3, "PrivateVlanMode": 3, "PrimaryVlanId": 1}, None),
        ({"OperationMode": 1}, None),
    ],
)
def test_adapters_have_their_settings(vlan: dict[str, Any], wanted: object) -> None:
    definition = {**GOOD, "network": [{**GOOD["network"][0], "Vlan": vlan}]}
    (adapter,) = planned(definition)["adapters"]
    assert adapter["settings"] == {"DhcpGuard": 0, "VmqWeight": 50}
    assert adapter["vlan"] == wanted
    said = any("VLAN" in line for line in left_out(json.dumps(definition)))
    assert said is (wanted is None and vlan["OperationMode"] != 0)


def test_a_vtpm_is_made_of_its_key_protector_and_a_new_one_on_request() -> None:
    new = PlanOptions(mark="m", new_tpm=True)
    assert planned(GOOD)["tpm"] == {"protector": "AQIDBAU=", "new": False}
    assert planned(GOOD, options=new)["tpm"] == {"protector": "AQIDBAU=", "new": True}
    for nothing in (None, "AAAABA==", "?", 7):
        without = {**GOOD, "key_protector": nothing}
        assert planned(without)["tpm"] is None
        assert planned(without, options=new)["tpm"] == {"protector": None, "new": True}
    assert planned({**GOOD, "security": {"TpmEnabled": False}}, options=new)["tpm"] is None


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

"""Domains and QEMU commands from definitions, also from forged ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.formats.libvirt_domain import Domain, DomainDisk, domain_of, domain_xml
from hvpsbridge.formats.qemu_options import qemu_script

DISKS = (
    DomainDisk("/vm/ide-0-0.qcow2", "ide 0:0", 512),
    DomainDisk("/vm/scsi-0-1.qcow2", "scsi 0:1", 512),
    DomainDisk("/vm/scsi-0-2.qcow2", "scsi 0:2", 4096),
)


def definition(generation: int) -> str:
    boot = {"Device": {"ControllerType": 1, "ControllerNumber": 0, "ControllerLocation": 1}}
    return json.dumps(
        {
            "vm": {"Generation": generation},
            "memory": {"Startup": 1 << 30},
            "processor": {"Count": 2},
            "firmware": {"BootOrder": [boot]} if generation == 2 else None,
            "network": [{"MacAddress": "00155DDAB787"}, {"MacAddress": ""}, {"MacAddress": "0" * 12}],
        }
    )


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", ["web01", "a/b & <c> 'd'", "Büro\n\x1b[2J", "/"])
def test_libvirt_takes_the_domain(generation: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_text(domain_xml(domain_of(name, definition(generation), DISKS)))
    for command in (
        ["virt-xml-validate", path, "domain"],
        ["virsh", "-c", "test:///default", "define", path],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_disks_are_at_controllers_that_guests_know() -> None:
    old, new = (domain_of("web", definition(number), DISKS) for number in (1, 2))
    assert (old.uefi, new.uefi) == (False, True)
    assert (old.memory_bytes, old.processors, old.lacks) == (1 << 30, 2, ())
    assert [disk.slot for disk in new.disks] == ["scsi 0:1", "ide 0:0", "scsi 0:2"]
    buses = {domain.uefi: [one.get("bus") for one in targets(domain)] for domain in (old, new)}
    assert buses == {False: ["ide", "sata", "scsi"], True: ["sata", "sata", "scsi"]}
    assert [one.get("dev") for one in targets(old)] == ["hda", "sda", "sdb"]
    assert old.macs == ("00:15:5d:da:b7:87",)


def targets(domain: Domain) -> list[Xml.Element]:
    return Xml.fromstring(domain_xml(domain)).findall("devices/disk/target")


def test_a_definition_that_lacks_everything_says_what_was_taken() -> None:
    domain = domain_of("web", "not JSON", DISKS)
    assert len(domain.lacks) == 3
    assert domain.uefi


@settings(max_examples=200)
@given(
    st.text(),
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "vm",
                        "memory",
                        "processor",
                        "firmware",
                        "network",
                        "BootOrder",
                        "Device",
                        "MacAddress",
                        "Startup",
                        "Count",
                        "Generation",
                        "ControllerType",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=12,
    ),
)
def test_forged_definitions_make_well_formed_files(name: str, forged: object) -> None:
    domain = domain_of(name, json.dumps(forged), DISKS)
    assert Xml.fromstring(domain_xml(domain)).tag == "domain"
    script = qemu_script(domain)
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0

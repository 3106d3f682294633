"""``hvps schema``: JSON Schemas of what hvps prints and reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from hvpsbridge.cli import console
from hvpsbridge.cli import sim_documents as sim
from hvpsbridge.playbook.read import playbook_schema
from hvpsbridge.report.documents import Document, document_schema
from hvpsbridge.report.documents.files import FileList, PointDiff, VolumeList
from hvpsbridge.report.documents.hosts import CertificateShown, HostChecked, HostSwept, Inventory
from hvpsbridge.report.documents.points import (
    AgesChecked,
    Copied,
    Forgotten,
    PointList,
    PointShown,
    PointsTagged,
    Verified,
)
from hvpsbridge.report.documents.proved import HostProved
from hvpsbridge.report.documents.repositories import (
    Collected,
    IndexRebuilt,
    KeySlotAdded,
    KeySlotRemoved,
    KeySlots,
    Repaired,
    RepositoryCreated,
    RepositoryUpgraded,
    StoreProbed,
)
from hvpsbridge.report.documents.retention import Retained, RetentionSimulated
from hvpsbridge.report.documents.run import RunEvent, RunReport, TaskEvent
from hvpsbridge.report.documents.stats import RepositoryStatsShown

# What each command prints with --json; and, under FAILURE, what any of them prints when it fails.
FAILURE = "failure"
DOCUMENTS: dict[str, tuple[type[Document], ...]] = {
    "run": (RunReport,),
    "run --json-lines": (TaskEvent, RunEvent),
    "backup": (RunReport,),
    "restore": (RunReport,),
    "list": (PointList,),
    "show": (PointShown,),
    "verify": (Verified,),
    "check-age": (AgesChecked,),
    "files ls": (VolumeList, FileList),
    "files find": (FileList,),
    "diff": (PointDiff,),
    "copy": (Copied,),
    "prune": (Retained, RetentionSimulated),
    "forget": (Forgotten,),
    "tag": (PointsTagged,),
    "protect": (PointsTagged,),
    "unprotect": (PointsTagged,),
    "inventory": (Inventory,),
    "host check": (HostChecked,),
    "host trust": (CertificateShown,),
    "host sweep": (HostSwept,),
    "host forget": (HostSwept,),
    "host prove": (HostProved,),
    "repo init": (RepositoryCreated,),
    "repo stats": (RepositoryStatsShown,),
    "repo upgrade": (RepositoryUpgraded,),
    "repo probe": (StoreProbed,),
    "repo rebuild-index": (IndexRebuilt,),
    "repo repair": (Repaired,),
    "repo collect": (Collected,),
    "key list": (KeySlots,),
    "key add": (KeySlotAdded,),
    "key import": (KeySlotAdded,),
    "key remove": (KeySlotRemoved,),
    "demo": (sim.DemoPlayed,),
    "sim serve": (sim.SimServed,),
    "sim info": (sim.SimInfo,),
    "sim create": (sim.SimVmCreated,),
    "sim import": (sim.SimDiskImported,),
    "sim apply": (sim.SimImageApplied,),
    "sim list": (sim.SimVms,),
    "sim checkpoint": (sim.SimCheckpointTaken,),
    "sim checkpoints": (sim.SimCheckpoints,),
    "sim image": (sim.SimGoldenImage,),
    "sim kept": (sim.SimGoldenImage,),
    "sim fault": (sim.SimFaultsArmed, sim.SimFaultsKnown),
    "sim knob": (sim.SimKnobs,),
    FAILURE: (RunReport,),
}


def report_schemas() -> dict[str, Any]:
    """A JSON Schema for each command that has ``--json``, by the command's name."""
    return {
        command: document_schema(*kinds, title=f"hvps {command}" if command != FAILURE else "failure")
        for command, kinds in DOCUMENTS.items()
    }


_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {"report": report_schemas, "playbook": playbook_schema}


@click.command("schema")
@click.argument("what", metavar="report|playbook", type=click.Choice(list(_SCHEMAS)))
def schema_(what: str) -> None:
    """Print JSON Schemas.

    report: an object with a schema for the output of each command that has --json, by name of the command,
    and one named "failure" for what any of them prints when it fails. playbook: the schema of playbooks.
    """
    console.schema(json.dumps(_SCHEMAS[what](), indent=2, ensure_ascii=False))

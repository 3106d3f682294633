"""``hvps schema``: every command with ``--json`` has a schema, and what it prints follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from hvpsbridge.cli.app import hvps as command_group
from hvpsbridge.cli.schema import DOCUMENTS, FAILURE
from tests.test_names_that_stay import documents

from .conftest import Hvps, Served
from .schemas import assert_valid
from .world import World

LINES = "run --json-lines"
# Checked in tests/test_demo.py, below, in test_trust.py and in test_prove.py.
ELSEWHERE = {"demo", "backup", "host trust", "host prove", "files ls", "files find", "diff"}


def commands_with_json(group: click.Group, path: str = "") -> set[str]:
    found = set()
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found |= commands_with_json(command, f"{path}{name} ")
        elif command is not None and any("--json" in parameter.opts for parameter in command.params):
            found.add(f"{path}{name}")
    return found


def test_every_command_with_json_has_a_schema() -> None:
    assert set(DOCUMENTS) == commands_with_json(command_group) | {LINES, FAILURE}


def test_what_every_command_prints_follows_its_schema(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMES_KEY", "first passphrase")
    monkeypatch.setenv("NAMES_OTHER", "second passphrase")
    checked = set()

    def check(command: str, document: Any) -> None:
        assert_valid(command, document)
        checked.add(command)

    documents(tmp_path, {}, check)
    key = ("--repo", tmp_path / "sealed")
    exported = tmp_path / "exported"
    assert hvps("key", "export", *key, "--key-env", "NAMES_KEY", "--to", exported).code == 0
    given = ("--key-file", exported, "--new-key-env", "NAMES_OTHER")
    check("key import", json.loads(hvps("key", "import", *key, *given, "--json").out))
    assert checked == set(DOCUMENTS) - ELSEWHERE


def test_a_backup_follows_the_schema_and_a_document_with_a_part_missing_does_not(
    hvps: Hvps, served: Served, tmp_path: Path
) -> None:
    world = World(hvps, served, tmp_path)
    world.build("web01")
    repository = ("--repo", world.repository, "--json", "-q")
    done = hvps("backup", served.url, "web01", *served.connection, *repository)
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert_valid("backup", document)
    del document["tasks"][0]["outcome"]
    with pytest.raises(AssertionError, match="outcome"):
        assert_valid("backup", document)


def test_validate_prints_the_schema_of_playbooks_as_it_did(hvps: Hvps) -> None:
    printed = json.loads(hvps("schema", "playbook").out)
    assert printed["properties"]["plays"]
    assert json.loads(hvps("validate", "--schema").out) == printed
    assert "--schema" not in hvps("validate", "--help").out

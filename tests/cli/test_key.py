"""Encrypted repositories from the command line: creating, opening, refusing, and managing their keys."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from .conftest import Hvps, on_a_terminal

CANARY = "sesam-0ffne-d1ch"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    url = tmp_path / "repo"
    monkeypatch.setenv("HVPS_REPO", str(url))
    monkeypatch.setenv("KEY", CANARY)
    monkeypatch.setenv("OTHER", "another one")
    return url


@pytest.fixture
def sealed(repository: Path, hvps: Hvps) -> Path:
    done = hvps("repo", "init", "--key-env", "KEY", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["sealed"] is True
    return repository


def test_a_plain_repository_is_warned_about_and_excludes_a_key(hvps: Hvps, repository: Path) -> None:
    assert hvps("repo", "init", "--plain", "--key-env", "KEY").code == 64
    done = hvps("repo", "init")
    assert done.code == 0
    assert "is not encrypted" in done.err
    assert hvps("key", "list").code == 5
    wrong = hvps("list", "--key-env", "KEY")
    assert wrong.code == 12


@pytest.mark.parametrize(("second", "code"), [("typed by hand", 0), ("typed by foot", 5)])
def test_on_a_terminal_a_new_key_is_asked_for_twice_and_an_old_one_once(
    second: str, code: int, hvps: Hvps, repository: Path
) -> None:
    made = on_a_terminal("repo", "init", answers=("typed by hand", second))
    assert made.code == code, made.out
    assert "typed by" not in made.out  # no echo
    if code == 0:
        assert hvps("list").code == 12
        assert on_a_terminal("list", answers=("typed by hand",)).code == 0
        assert on_a_terminal("list", answers=("something else",)).code == 12


def test_an_encrypted_repository_opens_with_its_key_only(hvps: Hvps, sealed: Path) -> None:
    assert hvps("list", "--key-env", "KEY").code == 0
    for options in ((), ("--key-env", "OTHER")):
        done = hvps("list", *options)
        assert done.code == 12
        assert done.err.count("\n") == 1
        assert str(sealed) in done.err


def test_a_key_that_was_never_exported_is_reminded_of_until_it_is(hvps: Hvps, sealed: Path) -> None:
    assert "never exported" in hvps("list", "--key-env", "KEY").err
    assert hvps("key", "export", "--key-env", "KEY").code == 0
    assert hvps("list", "--key-env", "KEY").err == ""


def test_a_key_that_could_not_be_written_is_still_reminded_of(
    hvps: Hvps, sealed: Path, tmp_path: Path
) -> None:
    done = hvps("key", "export", "--to", str(tmp_path / "gone" / "key"), "--key-env", "KEY")
    assert done.code == 5
    assert "cannot be written" in done.err
    assert "never exported" in hvps("list", "--key-env", "KEY").err


def test_slots_are_added_listed_and_removed_but_not_the_last(hvps: Hvps, sealed: Path) -> None:
    key = ("--key-env", "KEY")
    added = hvps("key", "add", "--label", "ops", "--new-key-env", "OTHER", "--json", *key)
    assert added.code == 0, added.err
    slot = json.loads(added.out)["slot_id"]
    slots = json.loads(hvps("key", "list", "--json", *key).out)["slots"]
    assert [entry["label"] for entry in slots] == ["first", "ops"]
    assert hvps("list", "--key-env", "OTHER").code == 0
    assert hvps("key", "remove", slot[:8], *key).code == 0
    assert hvps("list", "--key-env", "OTHER").code == 12
    assert hvps("key", "remove", slots[0]["slot_id"], *key).code == 5
    assert hvps("key", "remove", "ffffffff", *key).code == 5
    assert hvps("list", *key).code == 0


@pytest.mark.parametrize("lines", ["one line", "as the page shows it"])
def test_an_exported_key_opens_the_repository_when_every_passphrase_is_lost(
    lines: str, hvps: Hvps, sealed: Path, tmp_path: Path
) -> None:
    exported = tmp_path / "exported"
    assert hvps("key", "export", "--to", exported, "--key-env", "KEY").code == 0
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    assert hvps("key", "export", "--to", exported, "--key-env", "KEY").code == 5
    if lines != "one line":
        page = hvps("key", "export", "--page", "--key-env", "KEY").out
        found = re.search(r"hvps-key-1[\s0-9a-f-]+?(?=\n\n)", page)
        assert found is not None
        assert found[0].count("\n") == 2
        exported.write_text(found[0])
    assert hvps("list", "--key-file", exported).code == 0
    done = hvps("key", "import", "--key-file", exported, "--new-key-env", "OTHER")
    assert done.code == 0, done.err
    assert hvps("list", "--key-env", "OTHER").code == 0
    typed_wrong = exported.read_text().replace("0", "1", 1)
    exported.write_text(typed_wrong)
    assert hvps("list", "--key-file", exported).code == 12


def test_import_wants_an_exported_key(hvps: Hvps, sealed: Path) -> None:
    done = hvps("key", "import", "--key-env", "KEY", "--new-key-env", "OTHER")
    assert done.code == 5
    assert "is not an exported key" in done.err
    assert hvps("key", "add", "--key-env", "KEY").code == 64


def test_a_key_file_that_others_can_read_is_refused(hvps: Hvps, sealed: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(CANARY)
    key.chmod(0o640)
    done = hvps("list", "--key-file", key)
    assert done.code == 5
    assert "chmod 600" in done.err


def test_the_key_is_in_no_object_cache_log_or_output(hvps: Hvps, sealed: Path, tmp_path: Path) -> None:
    log = tmp_path / "hvps.log"
    key = ("--key-env", "KEY")
    said = ""
    for arguments in (("list",), ("verify",), ("key", "list"), ("key", "add", "--new-key-env", "OTHER")):
        done = hvps("-vv", "--log-file", log, *arguments, *key)
        said += done.out + done.err
    assert CANARY not in said
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path

"""Runs with Kerberos and a real KDC from the command line: what is stored, and exit codes of failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kerberos import PASSWORD, PRINCIPAL, Realm, need_kerberos

from .conftest import Hvps, Served, serving
from .world import World


@pytest.fixture
def realm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    need_kerberos()
    with Realm(tmp_path / "realm") as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def served(realm: Realm, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "world", "--auth", "kerberos", "--keytab", str(realm.keytab)) as host:
        yield host


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    return made


def playbook(world: World, account: str, server: str = "localhost") -> Path:
    """The playbook of the world with another user and ``auth: kerberos``."""
    path = world.playbook(url=world.served.url.replace("127.0.0.1", server))
    before, _, after = path.read_text().partition("user: backup, auth: basic, password: ")
    path.write_text(f"{before}auth: kerberos{account}}}{after.partition('}}')[2]}")
    return path


def test_a_backup_and_an_increment_over_kerberos_restore_equal(
    world: World, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full backup with a ticket from kinit, an increment with a keytab, as in cron, and one with a password.
    realm.kinit()
    assert world.hvps("run", playbook(world, "")).code == 0
    realm.kdestroy()
    world.guest_writes()
    with monkeypatch.context() as cron:
        cron.setenv("KRB5_CLIENT_KTNAME", str(realm.user_keytab))
        assert world.hvps("run", playbook(world, "")).code == 0
    realm.kdestroy()
    world.guest_writes()
    monkeypatch.setenv("HVPS_PASSWORD", PASSWORD)
    by_password = playbook(world, f", user: {PRINCIPAL}, password: {{env: HVPS_PASSWORD}}")
    assert world.hvps("run", by_password).code == 0
    world.assert_clean()
    assert world.assert_every_point_restores_equal() == 3


def test_what_kerberos_refuses_is_one_line_and_14(
    world: World, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVPS_PASSWORD", "another-5e1a")
    for account, words in (
        (f", user: {PRINCIPAL}, password: {{env: HVPS_PASSWORD}}", "password is wrong"),
        ("", "there is no ticket; run kinit"),
    ):
        done = world.hvps("run", playbook(world, account))
        assert done.code == 14, done.err
        assert words in done.out + done.err
        assert "Traceback" not in done.err
    realm.kinit()
    done = world.hvps("run", playbook(world, "", server="127.0.0.1"))
    assert done.code == 14
    assert "no such host; use its full domain name" in done.out + done.err
    assert world.points() == []


def test_a_user_with_a_windows_domain_is_a_mistake_of_the_playbook(world: World) -> None:
    done = world.hvps("run", playbook(world, ', user: "EXAMPLE\\\\backup"'))
    assert done.code == 5
    assert "write user@REALM" in done.err

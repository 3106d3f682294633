"""Specs from options, the configuration file and the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.cli.compose import connection
from hvpsbridge.cli.invocation import Invocation, load_settings
from hvpsbridge.cli.options import host_spec, repository_spec
from hvpsbridge.errors import ConfigurationError, UsageError
from hvpsbridge.host.connection import Authentication
from hvpsbridge.playbook.places import SecretRef
from hvpsbridge.playbook.problems import PlaybookInvalid

from .conftest import Hvps

NO_CONNECTION: dict[str, Any] = {
    "user": None,
    "auth": None,
    "password_file": None,
    "password_command": None,
    "password_env": None,
    "password_fd": None,
    "certificate": None,
    "certificate_key_file": None,
    "certificate_key_command": None,
    "certificate_key_env": None,
    "certificate_key_fd": None,
    "ca": None,
    "fingerprint": None,
    "insecure": None,
    "proxy": None,
    "port": None,
    "connect_timeout": None,
}
NO_REPOSITORY: dict[str, Any] = {
    "repo": None,
    "key_file": None,
    "key_command": None,
    "key_env": None,
    "key_fd": None,
}
CONFIG = """\
repository: {url: /srv/main, key: {file: /etc/key}, cache: /var/cache/hvps}
hosts:
  hv01:
    address: https://hv01.example.net:5986
    user: svc
    auth: ntlm
    password: {env: PW}
    connect_timeout: 3s
"""


def _invocation(tmp_path: Path, text: str = CONFIG) -> Invocation:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return Invocation(settings=load_settings(file))


def test_a_host_of_the_configuration_file_is_taken_with_all_its_keys(tmp_path: Path) -> None:
    spec = host_spec("hv01", dict(NO_CONNECTION), _invocation(tmp_path))
    assert spec.address == "https://hv01.example.net:5986"
    assert (spec.user, spec.auth, spec.connect_timeout) == ("svc", Authentication.NTLM, 3.0)
    assert spec.password == SecretRef(env="PW")


def test_options_win_over_the_configuration_file(tmp_path: Path) -> None:
    options = {
        **NO_CONNECTION,
        "user": "other",
        "auth": Authentication.BASIC,
        "password_command": "pass 'a b'",
    }
    spec = host_spec("hv01", options, _invocation(tmp_path))
    assert (spec.user, spec.auth) == ("other", Authentication.BASIC)
    assert spec.password == SecretRef(command=("pass", "a b"))


def test_an_unknown_name_is_an_address_and_its_password_is_asked_for(tmp_path: Path) -> None:
    options = {**NO_CONNECTION, "user": "u", "port": 15986}
    spec = host_spec("hv.example.net", options, _invocation(tmp_path))
    assert spec.address == "https://hv.example.net:15986"
    assert spec.password == SecretRef(prompt="Password of u on hv.example.net")


def test_kerberos_asks_for_nothing(tmp_path: Path) -> None:
    spec = host_spec(
        "hv", {**NO_CONNECTION, "user": "u", "auth": Authentication.KERBEROS}, _invocation(tmp_path)
    )
    assert spec.password is None


@pytest.mark.parametrize("host", ["https://hv:5986", "hv:5986"])
def test_a_port_beside_an_address_that_has_one_is_a_usage_error(host: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        host_spec(host, {**NO_CONNECTION, "port": 1}, _invocation(tmp_path))


def test_the_repository_is_the_option_s_then_the_variable_s_then_the_file_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = _invocation(tmp_path)
    assert repository_spec(dict(NO_REPOSITORY), invocation).url == "/srv/main"
    monkeypatch.setenv("HVPS_REPO", "/srv/variable")
    assert repository_spec(dict(NO_REPOSITORY), invocation).url == "/srv/variable"
    assert repository_spec({**NO_REPOSITORY, "repo": "/srv/option"}, invocation).url == "/srv/option"


def test_key_and_cache_of_the_file_are_used_for_its_own_repository_only(tmp_path: Path) -> None:
    invocation = _invocation(tmp_path)
    own = repository_spec(dict(NO_REPOSITORY), invocation)
    assert (own.key, own.cache) == (SecretRef(file=Path("/etc/key")), Path("/var/cache/hvps"))
    other = repository_spec({**NO_REPOSITORY, "repo": "/other", "key_fd": 5}, invocation)
    assert (other.key, other.cache) == (SecretRef(fd=5), None)


def test_a_configuration_file_is_as_strict_as_a_playbook(tmp_path: Path) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        _invocation(tmp_path, "repositry: {}\nhosts: {h: {address: h, password: hunter2}}\n")
    assert len(caught.value.problems) == 2
    assert "hunter2" not in str(caught.value)


def test_a_named_configuration_file_that_is_missing_is_an_error_and_a_default_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError):
        load_settings(tmp_path / "nothing.yaml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    load_settings(None)
    (tmp_path / "hvps").mkdir()
    (tmp_path / "hvps" / "config.yaml").write_text("repository: {url: /srv/found}\n")
    found = load_settings(None).repository
    assert found is not None
    assert found.url == "/srv/found"


def test_a_host_s_password_is_resolved_and_known_to_the_redactor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "canary-91c2")
    invocation = _invocation(tmp_path)
    made = connection("hv01", invocation.settings.hosts["hv01"], invocation)
    assert made.password is not None
    assert made.password.reveal() == "canary-91c2"
    assert "canary" not in repr(made)


def test_a_password_that_cannot_be_had_ends_the_command_with_5(hvps: Hvps) -> None:
    done = hvps("inventory", "https://hv", "--user", "u", "--auth", "ntlm", "--password-env", "NOT_SET")
    assert done.code == 5
    assert done.err == "hvps: password of host hv: environment variable NOT_SET is not set\n"


def test_basic_over_plain_http_is_refused_before_anything_is_sent(
    hvps: Hvps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "x")
    done = hvps("inventory", "http://192.0.2.1", "--user", "u", "--auth", "basic", "--password-env", "PW")
    assert done.code == 5
    assert "basic" in done.err


def test_old_spellings_work_and_are_not_shown(hvps: Hvps) -> None:
    shown = hvps("run", "--help").out
    assert "--max-readers-per-host" in shown
    assert "--most-" not in shown
    wrong = hvps("run", "playbook.yaml", "--most-readers-per-host", "0")
    assert wrong.code == 64
    assert "'--max-readers-per-host'" in wrong.err


def test_help_shows_what_the_dataclass_declares(hvps: Hvps) -> None:
    shown = " ".join(hvps("backup", "--help").out.split())
    assert "--wait DURATION How long to wait for temporary conditions" in shown
    assert "[default: 15m]" in shown
    assert "[default: application_or_crash]" in shown
    wrong = hvps("backup", "h", "vm", "--block", "5")
    assert wrong.code == 64
    assert "must be between 64 KiB and 4 MiB" in wrong.err


def test_an_insecure_host_is_warned_about_in_every_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invocation = _invocation(tmp_path, "hosts: {hv01: {address: hv01, insecure: true}}")
    spec = host_spec("hv01", dict(NO_CONNECTION), invocation)
    for _ in range(2):
        assert connection("hv01", spec, invocation).insecure
        warned = capsys.readouterr().err
        assert "warning: host hv01 is insecure: its certificate is not checked" in warned
        assert "log in there as this account, and read and alter backups" in warned


def test_a_private_key_of_several_lines_is_a_secret_like_any_other(tmp_path: Path) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_text(key)
    (tmp_path / "key.pem").chmod(0o600)
    options = {**NO_CONNECTION, "auth": Authentication.CERTIFICATE, "certificate": tmp_path / "login.crt"}
    invocation = _invocation(tmp_path)
    spec = host_spec("hv02", {**options, "certificate_key_file": tmp_path / "key.pem"}, invocation)
    reached = connection("hv02", spec, invocation)
    assert reached.certificate_key is not None
    assert reached.certificate_key.reveal() == key.strip()

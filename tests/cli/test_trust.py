"""``hvps host trust``: it shows the certificate, and writes nothing but the fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.host.fingerprints import fingerprint_of
from hvpsbridge.playbook.load import parse, plain
from hvpsbridge.playbook.pinning import with_fingerprint
from tests.certificates import der_of, issue

from .conftest import Hvps, Served, on_a_terminal, serving
from .schemas import assert_valid

PIN = "sha256:" + 32 * "5e"


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "tls").mkdir()
    return issue(tmp_path / "tls", ("hv01.example.net", "10.0.0.1"), days=(-5, 30), self_signed=True)[0]


@pytest.fixture
def secure(tmp_path: Path, chain: Path) -> Iterator[Served]:
    with serving(tmp_path / "world", "--certificate", str(chain)) as host:
        yield host


def thumbprint(chain: Path) -> str:
    return hashlib.sha1(der_of(chain)).hexdigest().upper()


def test_the_certificate_is_shown_with_the_line_that_pins_it(hvps: Hvps, secure: Served, chain: Path) -> None:
    done = hvps("host", "trust", secure.url)
    assert done.code == 0, done.err
    pin = fingerprint_of(der_of(chain))
    for text in (
        "subject      CN=hv01",
        "names        hv01.example.net, 10.0.0.1",
        "issuer       itself (self-signed)",
        "(29 days left)",
        f"SHA-256      {pin[7:]}",
        f"SHA-1        {thumbprint(chain)} (the thumbprint that Windows shows)",
        "without pin  not accepted: it is self-signed",
        f"    fingerprint: {pin}\n",
    ):
        assert text in done.out
    said = hvps("host", "trust", secure.url, "--json")
    document = json.loads(said.out)
    assert_valid("host trust", document)
    assert document["certificate"]["fingerprint"] == pin
    trusted = hvps("host", "trust", secure.url, "--ca", chain.parent / "issuer.pem")
    assert "not accepted: it is for hv01.example.net, 10.0.0.1, not for 127.0.0.1" in trusted.out


def test_the_printed_line_is_all_that_a_connection_needs(hvps: Hvps, secure: Served, chain: Path) -> None:
    pin = fingerprint_of(der_of(chain))
    refused = hvps("inventory", secure.url, *secure.connection)
    assert refused.code == 14
    assert "hvps host trust" in refused.err
    assert hvps("inventory", secure.url, *secure.connection, "--fingerprint", pin).code == 0
    issue(chain.parent, self_signed=True)
    changed = hvps("inventory", secure.url, *secure.connection, "--fingerprint", pin)
    assert changed.code == 14
    assert "is not the pinned one" in changed.err


PLAYBOOK = """\
# nightly
hosts:
  hv01:   # the old one
    address: {url}
    user: backup   # an administrator
  hv02: {{ address: hv02 }}
"""


def test_it_is_written_after_a_person_or_a_thumbprint_confirmed_it(
    hvps: Hvps, secure: Served, chain: Path, tmp_path: Path
) -> None:
    file = tmp_path / "play.yaml"
    text = PLAYBOOK.format(url=secure.url)
    file.write_text(text)
    file.chmod(0o640)
    pin = fingerprint_of(der_of(chain))
    expected = text.replace("    user:", f"    fingerprint: {pin}\n    user:")
    command = ("host", "trust", "hv01", "--write", file)

    unasked = hvps(*command)
    assert unasked.code == 64
    assert "use --expect or --yes" in unasked.err
    wrong = hvps(*command, "--expect", 20 * "5E")
    assert wrong.code == 14
    assert f"it has {thumbprint(chain)}, and {20 * '5E'} is expected" in wrong.err
    declined = on_a_terminal(*command, answers=["n\n"])
    assert declined.code == 0
    assert file.read_text() == text

    spaced = " ".join(thumbprint(chain)[at : at + 2] for at in range(0, 40, 2)).lower()
    done = hvps(*command, "--expect", "\u200e" + spaced)
    assert done.code == 0, done.err
    assert f"{file}: host hv01 is pinned to this certificate" in done.out
    assert file.read_text() == expected
    assert file.stat().st_mode & 0o777 == 0o640
    assert hvps(*command).code == 0  # nothing to write, so nothing to ask
    issue(chain.parent, self_signed=True)
    assert on_a_terminal(*command, answers=["y\n"]).code == 0
    assert file.read_text() == expected.replace(pin, fingerprint_of(der_of(chain)))


def test_what_cannot_be_trusted_is_an_error(hvps: Hvps, served: Served, tmp_path: Path) -> None:
    assert "has no certificate" in hvps("host", "trust", served.url).err
    nobody = hvps("host", "trust", "https://127.0.0.1:1")
    assert nobody.code == 4
    file = tmp_path / "play.yaml"
    file.write_text(PLAYBOOK.format(url="'{{ there }}'"))
    assert "has no host hv09; its hosts: hv01, hv02" in hvps("host", "trust", "hv09", "--write", file).err
    assert "has variables" in hvps("host", "trust", "hv01", "--write", file).err
    assert "--expect must be sha256:" in hvps("host", "trust", "hv01", "--expect", "x").err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hosts: {a: {address: x}}", f"hosts: {{a: {{fingerprint: {PIN}, address: x}}}}"),
        ("hosts:\n  a: {}\n", f"hosts:\n  a: {{fingerprint: {PIN}}}\n"),
        ("hosts:\r\n  a:\r\n    address: x", f"hosts:\r\n  a:\r\n    address: x\r\n    fingerprint: {PIN}"),
        (
            "\ufeffhosts:\n a:\n  address: x  # here\n\n  # who\n  user: u",
            f"\ufeffhosts:\n a:\n  address: x  # here\n  fingerprint: {PIN}\n\n  # who\n  user: u",
        ),
        (
            'hosts: {a: {fingerprint: "SHA256:' + ":".join(32 * ["AA"]) + '", address: x}}',
            f"hosts: {{a: {{fingerprint: {PIN}, address: x}}}}",
        ),
        (f"hosts:\n  a:\n    fingerprint: {PIN}  # old\n", f"hosts:\n  a:\n    fingerprint: {PIN}  # old\n"),
    ],
)
def test_nothing_but_the_fingerprint_is_written(before: str, after: str) -> None:
    assert with_fingerprint(before, "a", PIN, "play.yaml") == after


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hosts: {a: {fingerprint: '{{ pin }}'}}", "write this into host a by hand: fingerprint: sha256:"),
        ("hosts: {a: {fingerprint: !x y}}", "by hand"),
        ("hosts: {a: {insecure: true}}", "remove insecure from host a first"),
        ("hosts: [a]", "has no host a"),
        ("a", "has no host a"),
    ],
)
def test_what_cannot_be_changed_safely_is_left_to_a_person(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_fingerprint(text, "a", PIN, "play.yaml")
    assert says in str(caught.value)


PIECES = st.sampled_from(
    [
        *("hosts:", " ", "  ", "\n", "\r\n", "a:", "{", "}", ",", "address: x", "user: u", "# c", "|", ">"),
        *("? ", "fingerprint: ", PIN, "'", '"', "- ", "\u2028", "\t", ": "),
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=9).map("hosts:\n  a:\n    {}".format))
def test_any_text_is_changed_in_one_value_or_refused(text: str) -> None:
    try:
        changed = with_fingerprint(text, "a", PIN, "play.yaml")
    except ConfigurationError:
        return
    before, after = (plain(parse(one, "play.yaml")[0]) for one in (text, changed))
    assert isinstance(before, dict)
    before["hosts"]["a"]["fingerprint"] = PIN
    assert before == after

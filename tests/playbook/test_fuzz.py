"""Playbooks that anyone may have written: read or refused, within bounds."""

from __future__ import annotations

import pytest

from hvpsbridge.errors import UsageError
from hvpsbridge.playbook import load
from hvpsbridge.playbook.problems import MAX_PROBLEMS, PlaybookInvalid
from hvpsbridge.playbook.read import parse_playbook
from hvpsbridge.playbook.template import extra_vars
from tests.fuzzing import Target, at_length, briefly, fuzz_briefly

NIGHTLY = b"""\
version: 1
name: nightly
vars: {store: /srv/hvps, keep: "7"}
hosts:
  hv01: {address: "https://hv01.example:5986", user: backup, password: {env: HV_PASSWORD}}
repositories:
  main: {url: "{{ store }}/main", key: {file: /etc/hvps/key}}
plays:
  - name: all
    hosts: [hv01]
    repository: main
    vms: {include: ["web*", db01], exclude: [scratch]}
    tasks:
      - backup: {consistency: application_or_crash, disks: {exclude: ["scsi 0:1"]}}
      - verify
      - name: drill
        restore: {to: "raw:/srv/drill/{{ vm }}", overwrite: true, disk: 0}
"""
ODD = b"""\
version: 1.5e3
name: "caf\\u00e9 \\U0001F600 \\x41 {{ a }} {% b %}"
vars:
  a: [1, -2, 0x10, 010, 12:30, 1_000, .inf, 2026-03-01, ~, off]
  b: |
    lines
     of text
  ? - c
  : >-
    folded
plays: [{name: x, hosts: [], tasks: [{verify: {level: hashed}}, !!binary aGk=, &a {<<: *a}]}]
---
# a second document
"""


def read(data: bytes) -> object:
    return parse_playbook(data.decode(errors="surrogatepass" if b"\xed" in data else "replace"), "x")


TARGETS = [
    Target(
        name="playbook",
        samples=(NIGHTLY, ODD),
        parse=read,
        refuses=(PlaybookInvalid, UnicodeDecodeError),
        seconds=8,
    ),
    Target(
        name="-e",
        samples=(b"a=1", b"a=2026-03-01", b"a=1.5e3", b"a={{ b }}"),
        parse=lambda data: extra_vars((data.decode(errors="replace"),)),
        refuses=(UsageError,),
    ),
]


test_mutated_input_is_read_or_refused = briefly(TARGETS, examples=60)
test_a_million_mutated_inputs_are_read_or_refused = at_length(TARGETS)


HEAD = "version: 1\nname: "
LENGTH = 10_000


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "'" + "{{ " * (LENGTH // 3) + "'",
        HEAD + "'{{" + " " * LENGTH + "'",
        HEAD + "'{{ " + "a " * (LENGTH // 2) + "'",
        HEAD + "1_" * (LENGTH // 2) + "x",
        HEAD + "1:" * (LENGTH // 2) + "x",
        HEAD + "9" * LENGTH,
        HEAD + "9" * LENGTH + ".0e" + "9" * LENGTH,
        HEAD + "0" * LENGTH,
        HEAD + "=" * LENGTH,
        HEAD + "[" * LENGTH,
        HEAD + "{a: " * LENGTH,
        "? " * LENGTH,
        "- " * LENGTH,
        "version: 1\n" * (LENGTH // 11),
        "".join(f"k{number}: 1\n" for number in range(LENGTH // 9)),
        "[" + "&a 1," * (LENGTH // 5) + "]",
        "a: &a [" + "*a," * (LENGTH // 3) + "]",
        "plays: [" + "1," * (LENGTH // 2) + "]",
        HEAD + '"' + "\\ud800" * (LENGTH // 6) + '"',
        HEAD + '"\\0"',
        "%" * LENGTH,
        "\t" * LENGTH,
        "---\n" * (LENGTH // 4),
        "!" * LENGTH,
        "!<" + "%41" * LENGTH,
    ],
    ids=lambda text: ascii(text[:20] + text[-5:]),
)
def test_what_takes_long_elsewhere_is_refused_in_good_time(text: str) -> None:
    fuzzed = Target(
        name="playbook",
        samples=(text.encode(),),
        parse=lambda data: parse_playbook(data.decode(), "x"),
        refuses=(PlaybookInvalid,),
        seconds=8,
    )
    fuzz_briefly(fuzzed, examples=1)
    with pytest.raises(PlaybookInvalid) as caught:
        parse_playbook(text, "x")
    assert len(caught.value.lines()) <= MAX_PROBLEMS + 1


def test_a_file_of_mistakes_is_told_in_a_hundred_lines() -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        parse_playbook("version: 1\n" * 1000, "x")
    lines = caught.value.lines()
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1].startswith("x:1000:1: ")
    assert lines[-1].endswith("more mistakes up to here are not shown")


def test_a_file_that_is_no_playbook_is_not_parsed() -> None:
    with pytest.raises(PlaybookInvalid, match="a playbook has at most 250000"):
        parse_playbook("[" * (load.MAX_FILE_CHARACTERS + 1), "x")

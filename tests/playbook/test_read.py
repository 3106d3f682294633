from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.errors import ConfigurationError, ExitCode
from hvpsbridge.playbook.problems import PlaybookInvalid, PlaybookProblem
from hvpsbridge.playbook.read import parse_playbook, playbook_schema, read_playbook
from hvpsbridge.playbook.specs import PlaybookSpec
from hvpsbridge.tasks.planning.select import SelectableState
from hvpsbridge.tasks.policy import BackupOptions, ConsistencyPolicy
from hvpsbridge.tasks.restore.task import RestoreOptions
from hvpsbridge.tasks.verify_options import VerifyOptions

GOOD = """\
version: 1
name: nightly
hosts:
  hv01: {address: "https://hv01.example.net:5986", user: svc@EXAMPLE.NET, auth: kerberos, ca: /etc/ca.pem}
  hv02: {address: hv02.example.net, user: backup, auth: ntlm, password: {command: [pass, hv02]}}
repositories:
  main: {url: /srv/hvps/main, key: {file: /run/secrets/hvps-key}}
plays:
  - name: sql servers
    tags: [sql]
    hosts: [hv01]
    repository: main
    vms: {include: ["sql*"], exclude: ["*-old"], state: [running, off]}
    tasks:
      - backup: {consistency: application_or_crash, on_unexpected_full: warn}
      - verify: {level: hashed, subset: 1/14}
"""


def _problems(text: str, **extra: str) -> list[str]:
    with pytest.raises(PlaybookInvalid) as caught:
        parse_playbook(text, "p.yaml", extra)
    assert caught.value.exit_code is ExitCode.INVALID
    return list(caught.value.lines())


def _play(tasks: str = "[backup]", **keys: str) -> str:
    more = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return f"""\
version: 1
name: p
hosts:
  h: {{address: "http://127.0.0.1:5985", user: u, auth: basic, password: {{env: PW}}}}
repositories:
  r: {{url: /r}}
plays:
  - name: a play
    hosts: [h]
    repository: r
    tasks: {tasks}
{more}"""


def test_the_example_of_the_design_is_understood() -> None:
    playbook = parse_playbook(GOOD, "p.yaml")
    (play,) = playbook.plays
    assert play.vms.state == (SelectableState.RUNNING, SelectableState.OFF)
    backup, verify = play.tasks
    assert backup.options.consistency is ConsistencyPolicy.APPLICATION_OR_CRASH
    assert verify.options == VerifyOptions(subset=(1, 14))
    assert playbook.hosts["hv02"].password is not None
    assert playbook.hosts["hv02"].password.command == ("pass", "hv02")


def test_specs_are_frozen_all_the_way_down() -> None:
    playbook = parse_playbook(GOOD, "p.yaml")
    with pytest.raises(dataclasses.FrozenInstanceError):
        playbook.plays[0].vms.include = ()  # type: ignore[misc] - the test is that it refuses
    with pytest.raises(TypeError):
        playbook.hosts["x"] = playbook.hosts["hv01"]  # type: ignore[index] - likewise


@pytest.mark.parametrize("tasks", ["[backup]", "[{backup: }]", "[{backup: {}}]", "[{name: x, backup: null}]"])
def test_a_task_without_options_has_its_defaults(tasks: str) -> None:
    (task,) = parse_playbook(_play(tasks), "p.yaml").plays[0].tasks
    assert task.options == BackupOptions()


def test_sizes_and_durations_are_read_with_their_units() -> None:
    text = _play("[{backup: {limits: {checkpoint_age: 90m, free_space_floor: 1.5GiB}}}]")
    options = parse_playbook(text, "p.yaml").plays[0].tasks[0].options
    assert isinstance(options, BackupOptions)
    assert options.limits.checkpoint_age == 5400
    assert options.limits.free_space_floor == 1610612736


def test_every_mistake_is_told_at_once_with_its_place() -> None:
    text = """\
version: 2
name: 12:30
forks: "x"
hosts:
  a: {adress: x, user: yes, auth: kerberross, read_timeout: 10}
  b: {address: "http://hv", user: u, auth: basic, password: hunter2}
  b: {address: x}
repositories:
  main: {url: "{{ root }}", key: {file: /k, env: X}}
plays:
  - name: p
    tag: [sql]
    hosts: a
    repository: main
    vms: {state: [runing, on]}
    tasks:
      - backup: {on_unexpected_full: off, limits: {checkpoint_age: 12:30}}
      - verify: {subset: 15/14}
      - restore: {to: "qcow:/x", overwrite: yes}
      - {}
      - {verify: , backup: }
"""
    lines = _problems(text)
    places = [line.split(": ")[0].removeprefix("p.yaml:") + " " + line.split(": ")[1] for line in lines]
    assert places == [
        "1:1 version",
        "2:7 name",
        "3:1 forks",
        "5:3 hosts.a.address",
        "5:7 hosts.a.adress",
        "5:24 hosts.a.user",
        "5:29 hosts.a.auth",
        "5:47 hosts.a.read_timeout",
        "6:51 hosts.b.password",
        "7:3 hosts.b",
        "9:15 repositories.main.url",
        "9:29 repositories.main.key",
        "12:5 plays[0].tag",
        "13:5 plays[0].hosts",
        "15:19 plays[0].vms.state[0]",
        "15:27 plays[0].vms.state[1]",
        "17:38 plays[0].tasks[0].backup.on_unexpected_full",
        "17:68 plays[0].tasks[0].backup.limits.checkpoint_age",
        "18:18 plays[0].tasks[1].verify.subset",
        "19:19 plays[0].tasks[2].restore.to",
        "19:45 plays[0].tasks[2].restore.overwrite",
        "20:9 plays[0].tasks[3]",
        "21:9 plays[0].tasks[4]",
    ]
    whole = "\n".join(lines)
    assert "did you mean 'address'?" in whole
    assert "did you mean 'kerberos'?" in whole
    assert "did you mean 'running'?" in whole
    assert "did you mean 'tags'?" in whole
    assert "write true or false" in whole
    assert "hunter2" not in whole


def test_off_needs_no_quotes_where_it_is_the_state_of_a_vm_and_needs_them_elsewhere() -> None:
    assert parse_playbook(_play(vms="{state: [off]}"), "p.yaml").plays[0].vms.state == (SelectableState.OFF,)
    (line,) = _problems(_play(vms="{include: [off]}"))
    assert "put it in quotes" in line


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("auth: basic", "auth: ntlm, password_file: x", "unknown key; did you mean 'password'?"),
        ("http://127.0.0.1:5985", "http://hv.example.net:5985", "basic over plain http"),
        ("http://127.0.0.1:5985", "ftp://hv", "is not an address"),
        ("http://127.0.0.1:5985", "https://u:pw@hv", "must not contain a user"),
        ("http://127.0.0.1:5985", "http://hv:99999", "is not an address"),
        ("user: u, ", "", "basic needs user and password"),
        ("hosts: [h]", "hosts: [g*]", "no host 'g*' in this file"),
        ("repository: r", "repository: rr", "no repository 'rr' in this file; did you mean 'r'?"),
        ("tasks: [backup]", "tasks: []", "must have at least 1 item, not an empty list"),
        ("tasks: [backup]", "tasks: [backp]", "must be keys with values, not 'backp'"),
        ("version: 1", "version: '1'", "must be 1, not '1'"),
        ("name: p\n", "name: 7\n", "must be text, not 7"),
        ("name: p\n", 'name: ""\n', "must be text"),
        ("name: p\n", 'name: "a\\nb"\n', "control characters"),
        ("{env: PW}", "{}", "specify exactly one of file, command, env, fd, prompt; found 0"),
        ("{env: PW}", "7", "secrets are not allowed here"),
        ("{env: PW}", "{command: []}", "must have at least 1 item"),
        ("{env: PW}", "{fd: true}", "must be a whole number"),
    ],
)
def test_a_mistake_is_said_in_one_line(old: str, new: str, part: str) -> None:
    text = _play()
    assert old in text
    lines = _problems(text.replace(old, new, 1))
    assert any(part in line for line in lines), lines
    assert len(lines) == 1


def test_basic_over_plain_http_is_let_pass_on_loopback_only() -> None:
    for name in (
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
    ):
        assert parse_playbook(_play().replace("127.0.0.1", name), "p.yaml")
    for name in ("localhost.example.net", "10.0.0.1", "127.0.0.1.example.net"):
        (line,) = _problems(_play().replace("127.0.0.1", name))
        assert "basic over plain http" in line


def test_variables_of_the_play_win_over_the_playbook_and_the_command_line_over_both() -> None:
    text = "vars: {a: 1, b: 1, c: 1}\n" + _play(
        '[{restore: {to: "raw:/{{ a }}{{ b }}{{ c }}/{{ vm }}"}}]', vars="{b: 2, c: 2}"
    )
    options = parse_playbook(text, "p.yaml", {"c": 3}).plays[0].tasks[0].options
    assert isinstance(options, RestoreOptions)
    assert options.to == "raw:/123/{{ vm }}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml: cannot be read: No such file"):
        read_playbook(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8 at byte 6"):
        read_playbook(tmp_path / "latin.yaml")


def test_the_json_schema_knows_every_key_with_a_description() -> None:
    schema = playbook_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"version", "name", "hosts", "repositories", "plays"}
    for name, definition in {"PlaybookSpec": schema, **schema["$defs"]}.items():
        for key, value in definition.get("properties", {}).items():
            assert "description" in value, f"{name}.{key}"
    assert {field.name for field in dataclasses.fields(PlaybookSpec)} == set(schema["properties"])


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("playbooks/*.yaml")), ids=lambda p: p.name
)
def test_every_playbook_that_ships_is_valid(path: Path) -> None:
    extra = {"address": "http://127.0.0.1:5985", "repository": "/srv/hvps", "restore_folder": "/tmp/r"}
    assert read_playbook(path, extra).plays


_ODD = st.sampled_from(
    ["7", "-1.5", "true", "~", "off", "12:30", "[]", "{}", "[7]", "[[x]]", "{a: 1}", "'{{ x }}'", "x", "''"]
)


@given(st.integers(0, 200), _ODD)
def test_any_value_in_any_place_gives_a_playbook_or_mistakes_with_their_places(place: int, odd: str) -> None:
    """Each value of the example in turn becomes something else."""
    values = list(re.finditer(r"(?<=: )[^\n,{}\[\]]+|\[[^\[\]\n]*\]|\{[^{}\n]*\}", GOOD))
    match = values[place % len(values)]
    text = GOOD[: match.start()] + odd + GOOD[match.end() :]
    problems: tuple[PlaybookProblem, ...] = ()
    try:
        assert parse_playbook(text, "p.yaml", {"x": 1}).plays
    except PlaybookInvalid as err:
        problems = err.problems
    lines = text.count("\n") + 1
    assert all(1 <= problem.mark.line <= lines and problem.what for problem in problems)

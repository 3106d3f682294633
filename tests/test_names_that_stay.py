"""Names that users, scripts and stored data depend on stay as they are; ``names_that_stay.json`` lists them.

A test fails when a name is gone or has another value, and says which. New names are welcome: they are
added to the list with ``python -m tests.test_names_that_stay``, which adds and never removes. Names of
modules, classes, functions and constants are free, except classes of errors, which reports show.

Names are read from what hvps prints and accepts where possible, else from the package by shape: a record
is any dataclass with these fields, a list of words any enum with these values. What has to be imported by
name is imported here and nowhere below.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import enum
import importlib
import io
import json
import os
import pkgutil
import re
import socket
import sys
import tarfile
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest
import yaml

import hvpsbridge
from hvpsbridge.cli.main import hvps as command_group
from hvpsbridge.cli.main import main as command_line
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.formats.envelope import Codec, Kind
from hvpsbridge.formats.keyslot import exported_text
from hvpsbridge.report.values import MADE_BY
from hvpsbridge.repository import layout
from hvpsbridge.repository.sealing import KeySealer, PlainSealer, derive_keys
from hvpsbridge.tasks.planning.mark import Mark, parse_mark

LIST = Path(__file__).with_name("names_that_stay.json")
GOLDEN = Path(__file__).with_name("golden")
PACKAGE = Path(hvpsbridge.__file__).resolve().parent
SCRIPTS = PACKAGE.parent / "ps_scripts"

Json = dict[str, Any]
ONE, TWO = UUID(int=1), UUID(int=2)


# -- the package ------------------------------------------------------------------------------------


@cache
def modules() -> tuple[Any, ...]:
    """Every module of the product."""
    found = pkgutil.walk_packages(hvpsbridge.__path__, "hvpsbridge.")
    return tuple(importlib.import_module(each.name) for each in found if not each.name.endswith("__main__"))


def classes(wanted: Callable[[type], bool]) -> list[type]:
    """Classes of the product that are wanted, each once."""
    found = {
        f"{value.__module__}.{value.__qualname__}": value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__.startswith("hvpsbridge") and wanted(value)
    }
    return [found[name] for name in sorted(found)]


def sources(*endings: str) -> Iterator[tuple[Path, str]]:
    """Files of the product with their text."""
    for folder in (PACKAGE, SCRIPTS):
        for path in sorted(folder.rglob("*")):
            if path.suffix in endings and "bin" not in path.relative_to(folder).parts:
                yield path, path.read_text(encoding="utf-8")


def plain(value: object) -> Any:
    """A value as JSON has it."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# -- records ----------------------------------------------------------------------------------------

# Owner fields are names: stored records, documents, the configuration file, what scripts take and give.
# Only for adding to the list; what is on it is found by its fields.
RECORDS = (
    *("Settings", "KeySlot", "ExportMark", "Manifest", "PointIds", "LedgerEntry", "LeaseRecord"),
    *("BadList", "Tombstone", "LaterProof", "Knobs"),
    *("RunReport", "SettingsSpec", "BackedUp", "Proof", "ProbeReport"),
)
CONTRACT = ("hvpsbridge.contract.results", "hvpsbridge.contract.readings")


def fields_of(kind: Any) -> Json:
    """Fields with their defaults; "needed" for those without."""
    found: Json = {}
    for field in dataclasses.fields(kind):
        if field.metadata.get(MADE_BY):
            # Its keys appear in place of its own, and only a run knows which they are.
            found |= fields_of(field.metadata[MADE_BY]())
        elif field.default is not dataclasses.MISSING:
            found[field.name] = {"default": plain(field.default)}
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = {"default": plain(field.default_factory())}
        else:
            found[field.name] = "needed"
    return found


def inner(kind: Any) -> Iterator[type]:
    """Dataclasses that the fields of one hold."""
    for hint in typing.get_type_hints(kind).values():
        waiting = [hint]
        while waiting:
            each = waiting.pop()
            waiting += typing.get_args(each)
            if isinstance(each, type) and dataclasses.is_dataclass(each):
                yield each


@cache
def all_records() -> dict[str, Json]:
    """Fields of every dataclass there is."""
    every = classes(lambda value: dataclasses.is_dataclass(value) and not issubclass(value, HvpsError))
    return {f"{kind.__module__}.{kind.__qualname__}": fields_of(kind) for kind in every}


def records() -> Json:
    """Fields of the records named above and of all they hold."""
    every = classes(dataclasses.is_dataclass)
    waiting = [kind for kind in every if kind.__name__ in RECORDS or kind.__module__.startswith(CONTRACT)]
    found: dict[str, Json] = {}
    seen: set[type] = set()
    while waiting:
        kind = waiting.pop()
        if kind not in seen and dataclasses.fields(kind):
            seen.add(kind)
            found[f"{kind.__module__.removeprefix('hvpsbridge.')} {kind.__name__}"] = fields_of(kind)
            waiting += inner(kind)
    return dict(sorted(found.items()))


def missing_fields(wanted: Json) -> list[str]:
    """What the most similar dataclass lacks; empty when one has all."""

    def lacks(there: Json) -> list[str]:
        return [
            f"{name} is gone" if name not in there else f"{name} was {value}, is {there[name]}"
            for name, value in wanted.items()
            if name not in there or there[name] != value
        ]

    return min(map(lacks, all_records().values()), key=len)


# -- enumerations, errors, constants ----------------------------------------------------------------


@cache
def all_words() -> tuple[frozenset[str], ...]:
    """Values of every enumeration of words; the first of those with several values."""
    found = []
    for kind in classes(lambda value: issubclass(value, enum.Enum)):
        values = [member.value for member in kind]  # type: ignore[attr-defined]
        firsts = [value[0] if isinstance(value, tuple) else value for value in values]
        if firsts and all(isinstance(first, str) for first in firsts):
            found.append(frozenset(map(str, firsts)))
    return tuple(found)


@cache
def all_numbers() -> tuple[dict[str, int], ...]:
    """Names with numbers of every enumeration of numbers."""
    return tuple(
        {member.name: int(member) for member in kind}  # type: ignore[attr-defined]
        for kind in classes(lambda value: issubclass(value, enum.IntEnum) and value is not ExitCode)
        if not kind.__module__.startswith(("hvpsbridge.sim.wsman", "hvpsbridge.sim.disk_protocol"))
    )


def errors() -> Json:
    """``kind`` of every error with its exit code and the names of its ``facts``."""
    found: Json = {}
    modules()
    waiting = [HvpsError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("hvpsbridge"):
            name = kind.__new__(kind).kind
            found[name] = {
                "exit_code": kind.exit_code.name,
                "facts": [field.name for field in dataclasses.fields(kind)],
            }
    return dict(sorted(found.items()))


def byte_labels() -> list[str]:
    """Byte constants with letters in them: labels of keys wherever they are, magic numbers of formats."""
    return sorted(
        {
            node.value.decode("latin-1")
            for path, text in sources(".py")
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes)
            if node.value.startswith(b"hvps ")
            or ("formats" in path.parts and re.search(rb"[A-Za-z]{2}", node.value))
        }
    )


def structs() -> list[str]:
    """Layouts of binary records in stores, in VHDX files and on the wire."""
    calls = (
        node
        for path, text in sources(".py")
        if "sim" not in path.relative_to(PACKAGE.parent).parts
        for node in ast.walk(ast.parse(text))
    )
    return sorted(
        {
            node.args[0].value
            for node in calls
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
            if node.func.attr in ("Struct", "pack", "unpack", "unpack_from", "pack_into", "iter_unpack")
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
            if len(node.args[0].value) > 4
        }
    )


def text_constants() -> list[str]:
    """Texts of module constants around the repository: prefixes, names of files and objects."""
    return sorted(
        {
            value
            for module in modules()
            if module.__name__.startswith(("hvpsbridge.repository", "hvpsbridge.formats"))
            for name, value in vars(module).items()
            if name.strip("_").isupper() and type(value) is str and len(value) < 40
        }
    )


def object_names() -> Json:
    """Names of objects as the layout makes them."""
    return {
        "data pack": layout.pack_name(Kind.DATA_PACK, bytes(range(16))),
        "node pack": layout.pack_name(Kind.NODE_PACK, bytes(range(16))),
        "index": layout.index_name(bytes(range(16))),
        "point": layout.point_name(ONE),
        "ids": layout.ids_name(ONE),
        "tombstone": layout.tombstone_name(ONE),
        "slot": layout.slot_name(ONE),
        "series": layout.counted("leases/x", 255),
        "golden": golden_names(),
    }


def golden_names() -> list[str]:
    """First parts of the names in the golden repositories."""
    names = set()
    for path in GOLDEN.glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            names |= {member.name.split("/", 2)[1] for member in archive if "/" in member.name}
    return sorted(names)


def vectors() -> Json:
    """What fixed keys make of fixed texts: a changed label changes these."""
    keyed, bare = KeySealer(derive_keys(bytes(range(32)), ONE)), PlainSealer(ONE)
    found: Json = {"mark": str(Mark(ONE, TWO, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))}
    for name, sealer in (("keyed", keyed), ("plain", bare)):
        found[f"{name} id"] = sealer.identify(bytes(32)).hex()
        for label in ("leases", "ledger"):
            found[f"{name} {label}"] = sealer.opaque(label, TWO)
    found["plain object"] = bare.seal_object(Kind.LEDGER, Codec.RAW, 3, b"abc", b"place").hex()
    found["exported key"] = exported_text(bytes(range(32)), ONE)
    return found


def error_ids() -> Json:
    """Error ids and names of results in the scripts, and those that hvps knows; no classes of C#."""
    found: dict[str, set[str]] = {"scripts": set(), "hvps": set()}
    ours: set[str] = set()
    for path, text in sources(".py", ".ps1", ".psm1", ".cs"):
        ids = set(re.findall(r"""['"](Hvps\.[A-Z][A-Za-z]+)['"]""", text))
        found["scripts" if path.is_relative_to(SCRIPTS) else "hvps"] |= ids
        if path.suffix == ".cs":
            ours |= {f"Hvps.{name}" for name in re.findall(r"\b(?:class|struct) (\w+)", text)}
    return {where: sorted(ids - ours) for where, ids in found.items()}


def scripts() -> Json:
    """Scripts with their parameters."""
    found = {}
    for path in sorted(SCRIPTS.glob("*.ps1")):
        head = re.search(r"\bparam\s*\((.*?)^\s*\)", path.read_text(encoding="utf-8"), re.S | re.M | re.I)
        found[path.stem] = sorted(set(re.findall(r"\$([A-Z]\w+)", head[1]))) if head else []
    return found


def variables() -> list[str]:
    """Environment variables: whole texts in Python, since help mentions them too; any mention elsewhere."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            found |= set(re.findall(r"\bHVPS_[A-Z_]+\b", path.read_text("utf-8", "replace")))
    for _, text in sources(".py"):
        found |= set(re.findall(r"""['"](HVPS_[A-Z_]+)['"]""", text))
    return sorted(found)


# -- the command line -------------------------------------------------------------------------------


def commands() -> Json:
    """Every command with its options, hidden ones too, and the choices they take."""
    found: Json = {}

    def walk(command: click.Command, path: str) -> None:
        context = click.Context(command, info_name=path)
        options: Json = {}
        arguments: Json = {}
        for parameter in command.get_params(context):
            facts: Json = {"nargs": parameter.nargs, "required": parameter.required}
            if isinstance(parameter.type, click.Choice):
                facts["choices"] = [str(plain(choice)) for choice in parameter.type.choices]
            if isinstance(parameter, click.Option):
                flag = parameter.is_flag or parameter.count
                facts |= {"takes": "nothing" if flag else "value", "multiple": parameter.multiple}
                if parameter.envvar:
                    facts["variable"] = plain(parameter.envvar)
                for spelling in (*parameter.opts, *parameter.secondary_opts):
                    options[spelling] = facts
            else:
                arguments[str(len(arguments))] = facts
        found[path] = {"options": options, "arguments": arguments}
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                walk(below, f"{path} {name}")

    walk(command_group, "hvps")
    return found


def hvps(*arguments: str | Path, ends: tuple[int, ...] = (0,)) -> str:
    """What a command line prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line([str(argument) for argument in arguments])
    assert code in ends, f"hvps {' '.join(map(str, arguments))} ended with {code}: {err.getvalue()}"
    return out.getvalue()


def playbook_keys() -> Json:
    """Every key of a playbook, in order, with default and words, from the schema as printed."""
    schema = json.loads(hvps("validate", "--schema"))
    found: Json = {}

    def walk(node: Json, path: str) -> None:
        facts = found.setdefault(path, {})
        while "$ref" in node:
            target = schema
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        if "default" in node and not isinstance(node["default"], dict):
            facts["default"] = node["default"]
        if "enum" in node:
            facts["words"] = sorted(map(str, node["enum"]))
        for key, below in node.get("properties", {}).items():
            walk(below, f"{path}.{key}")
            found[f"{path}.{key}"]["required"] = key in node.get("required", ())
        if isinstance(node.get("items"), dict):
            walk(node["items"], f"{path}[]")
        if isinstance(node.get("additionalProperties"), dict):
            walk(node["additionalProperties"], f"{path}.*")
        for way in ("anyOf", "oneOf", "allOf"):
            for below in node.get(way, ()):
                walk(below, path)

    walk(schema, "")
    return found


# A configuration file with every key.
CONFIGURATION = """\
repository: {url: /backup, key: {env: KEY}, cache: /var/cache/hvps}
hosts:
  a: {address: a.example, user: backup, auth: negotiate, password: {file: /p}, ca: /ca.pem,
      operation_timeout: 20s, read_timeout: 30s, connect_timeout: 10s}
  b: {address: b.example, user: backup, auth: ntlm, password: {command: [pass, show, b]}}
  c: {address: c.example, user: backup, auth: basic, password: {prompt: "Password: "}}
  d: {address: d.example, auth: kerberos}
log_file: LOG
"""


# -- documents --------------------------------------------------------------------------------------

# What is below them is listed with the errors.
OPEN_KEYS = frozenset({"facts"})


def paths(value: object, path: str = "") -> Iterator[str]:
    """Paths of all keys in a document: ``tasks[].backup.disks[].slot``."""
    if isinstance(value, dict):
        for key, item in value.items():
            below = f"{path}.{key}" if path else key
            yield below
            if key not in OPEN_KEYS:
                yield from paths(item, below)
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, f"{path}[]")


PLAYBOOK = """\
version: 1
name: names
hosts: {{h: {{address: "{url}", user: backup, auth: basic, password: {{file: "{world}/password"}}}}}}
repositories: {{main: {{url: "{folder}/repo"}}}}
plays:
  - name: all
    hosts: [h]
    vms: {{include: [vm, other]}}
    repository: main
    tasks:
      - backup: {{disks: {{exclude: ["scsi 0:1"]}}}}
      - verify
      - restore: {{to: "raw:{folder}/out/{{{{ vm }}}}"}}
"""


def documents(folder: Path, found: Json, seen: Callable[[str, Json], object] = lambda *_: None) -> Json:
    """Paths of keys in each JSON document, as a user gets them from a simulated host and two repositories.

    They are put into ``found`` as they come, so a name that is gone is reported even when a command fails.
    ``seen`` is called with each command and its document.
    """
    from tests.cli.conftest import in_process

    world, repo = folder / "world", folder / "repo"
    key = ("--repo", folder / "sealed", "--key-env", "NAMES_KEY")

    def take(name: str, *arguments: str | Path, ends: tuple[int, ...] = (0,)) -> Any:
        text = hvps(*arguments, ends=ends)
        found[name] = sorted({*found.get(name, ()), *paths(json.loads(text))})
        seen(name, json.loads(text))
        return json.loads(text)

    def sim(what: str, *arguments: str | Path) -> Any:
        return take(f"sim {what}", "sim", what, *arguments, "-f", world, "--json")

    process = in_process("sim", "serve", "--folder", world, "--json")
    try:
        assert process.stdout is not None
        served = json.loads(process.stdout.readline())
        found["sim serve"] = sorted(paths(served))
        seen("sim serve", served)
        for knob, value in (("job_seconds", "0.01"), ("visibility_seconds", "0"), ("merge_seconds", "0.02")):
            hvps("sim", "knob", knob, value, "-f", world)
        image = folder / "image"
        image.write_bytes(os.urandom(1 << 18))
        sim("import", "vm", image)
        sim("import", "vm", image, "--slot", "scsi 0:1")
        sim("create", "other")
        sim("info")
        sim("knob")
        sim("fault", "--known")
        sim("fault")
        made = sim("checkpoint", "vm", "mine")["checkpoint_id"]
        sim("checkpoints", "vm")
        sim("kept", made)
        sim("image", made)
        sim("apply", "vm", image)
        sim("list")
        hvps("sim", "remove", made, "-f", world)
        host = ("--auth", "basic", "--user", "backup", "--password-file", world / "password")
        take("inventory", "inventory", served["url"], *host, "--json")
        take("host check", "host", "check", served["url"], *host, "--json", ends=(0, 2, 3))
        take("repo probe", "repo", "probe", folder / "probed", "--json")
        take("repo init", "repo", "init", repo, "--chunk", "64KiB", "--json")
        playbook = folder / "playbook.yaml"
        playbook.write_text(PLAYBOOK.format(url=served["url"], world=world, folder=folder))
        take("run", "run", playbook, "--check", "--json", "-q", ends=(2,))
        take("run", "run", playbook, "--json", "-q", ends=(2,))
        for line in hvps("run", playbook, "--json-lines", "--check", "-q", ends=(2,)).splitlines():
            event = json.loads(line)
            seen("run --json-lines", event)
            name = f"run lines {event['event']}"
            found[name] = sorted({*found.get(name, ()), *paths(event)})
        point = take("list", "list", "--repo", repo, "--json")["points"][0]["point_id"]
        take("show", "show", point, "--repo", repo, "--json")
        take("verify", "verify", "--repo", repo, "--json")
        take("check-age", "check-age", "--max", "26h", "--repo", repo, "--json", ends=(0, 2))
        restored = ("restore", point, "--repo", repo, "--to", f"raw:{folder / 'again'}", "--json", "-q")
        take("restore", *restored)
        take("tag", "tag", point, "--add", "gold", "--repo", repo, "--json")
        take("protect", "protect", point, "--repo", repo, "--json")
        take("unprotect", "unprotect", point, "--repo", repo, "--json")
        take("prune", "prune", "--keep-last", "1", "--check", "--repo", repo, "--json")
        take("prune", "prune", "--keep-last", "1", "--simulate", "9d", "--json")
        take("forget", "forget", point, "--newest", "--check", "--repo", repo, "--json")
        take("repo collect", "repo", "collect", "--check", "--repo", repo, "--json")
        take("repo rebuild-index", "repo", "rebuild-index", "--repo", repo, "--json", "-q")
        take("repo stats", "repo", "stats", "--repo", repo, "--json")
        take("repo repair", "repo", "repair", "--repo", repo, "--json")
        take("repo upgrade", "repo", "upgrade", "--repo", repo, "--json")
        take("repo init", "repo", "init", *key, "--json")
        take("key list", "key", "list", *key, "--json")
        slot = take("key add", "key", "add", *key, "--new-key-env", "NAMES_OTHER", "--json")["slot_id"]
        take("key remove", "key", "remove", slot, *key, "--json")
        hvps("repo", "init", folder / "copied", "--chunk", "64KiB")
        take("copy", "copy", "--repo", repo, "--to", folder / "copied", "--json", "-q")
        sweep = (served["url"], "--repo", repo, *host, "--dry-run", "--json")
        take("host sweep", "host", "sweep", *sweep, ends=(0, 3, 6))
        take("host forget", "host", "forget", served["url"], "vm", *sweep[1:], ends=(0, 3, 6))
        take("failure", "list", "--repo", folder / "nothing", "--json", ends=(10,))
        found["control calls"] = control_calls(world / "control")
        found["state folder"] = sorted(path.name for path in world.iterdir())
    finally:
        process.terminate()
        process.communicate(timeout=30)
    return found


# Calls on the simulator's control socket. Only for adding; "shutdown" is not tried.
CALLS = (
    *("info", "vms", "checkpoints", "kept_image", "live_image", "knobs", "faults", "counters", "create_vm"),
    *("add_disk", "apply_image", "write", "set_state", "change_vm", "add_pass_through", "remove_disk"),
    *("resize_disk", "lose_tracking", "add_reference_point", "destroy_reference_points", "add_node"),
    *("migrate", "crash_host", "kill_host", "revive_host", "checkpoint", "remove_checkpoint"),
    *("apply_checkpoint", "set_fault", "set_knob"),
)


def control_calls(path: Path) -> list[str]:
    """Calls of the control socket that are known. They lack arguments and so do nothing."""
    known = []
    with socket.socket(socket.AF_UNIX) as link:
        descriptor = os.open(path.parent, os.O_RDONLY)
        link.connect(f"/proc/self/fd/{descriptor}/{path.name}")
        os.close(descriptor)
        stream = link.makefile("rwb")
        for call in CALLS:
            stream.write(json.dumps({"call": call}).encode() + b"\n")
            stream.flush()
            reply = json.loads(stream.readline())
            if "result" in reply or "know that call" not in reply["error"]:
                known.append(call)
    return known


def faults() -> Json:
    """Faults of the wire, with where they strike and their parameters."""
    (table,) = PACKAGE.rglob("faults.yaml")
    return {
        name: {key: value for key, value in row.items() if key != "what"}
        for name, row in yaml.safe_load(table.read_text(encoding="utf-8")).items()
    }


# -- the comparison ---------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], Any]] = {
    "errors": errors,
    "byte labels": byte_labels,
    "structs": structs,
    "text constants": text_constants,
    "object names": object_names,
    "vectors": vectors,
    "error ids": error_ids,
    "scripts": scripts,
    "variables": variables,
    "commands": commands,
    "playbook": playbook_keys,
    "faults": faults,
}


def listed() -> Json:
    """The list."""
    names: Json = json.loads(LIST.read_text(encoding="utf-8"))
    return names


def gone(then: Any, now: Any, where: str) -> list[str]:
    """What was there then and is not now, or is something else."""
    if isinstance(then, dict) and isinstance(now, dict):
        found = []
        for key, value in then.items():
            path = f"{where} / {key}"
            found += [f"{path} is gone"] if key not in now else gone(value, now[key], path)
        return found
    if isinstance(then, list) and isinstance(now, list):
        return [f"{where}: {item!r} is gone" for item in then if item not in now]
    return [] if then == now else [f"{where} was {then!r}, is {now!r}"]


@pytest.mark.parametrize("part", PARTS)
def test_names_stay(part: str) -> None:
    lost = gone(listed()[part], PARTS[part](), part)
    assert not lost, "\n".join(lost)


def test_exit_codes_are_exactly_these() -> None:
    assert {code.name: int(code) for code in ExitCode} == listed()["exit codes"]


@pytest.mark.parametrize("name", listed()["records"])
def test_records_keep_their_fields(name: str) -> None:
    lost = missing_fields(listed()["records"][name])
    assert not lost, f"no record has the fields of {name} any more: {'; '.join(lost)}"


def test_enumerations_keep_their_words() -> None:
    for words in listed()["words"]:
        best = min((set(words) - there for there in all_words()), key=len)
        assert not best, f"of the words {', '.join(words)} no enumeration has {', '.join(sorted(best))}"


def test_enumerations_keep_their_numbers() -> None:
    for numbers in listed()["numbers"]:
        best = min((dict(numbers.items() - there.items()) for there in all_numbers()), key=len)
        assert not best, f"of the numbers {numbers} no enumeration has {best}"


def test_playbook_keys_keep_their_order() -> None:
    then, now = list(listed()["playbook"]), list(playbook_keys())
    assert then == [key for key in now if key in set(then)]


def test_marks_are_read_back() -> None:
    for mark in (listed()["vectors"]["mark"], *listed()["earlier marks"]):
        assert parse_mark(mark) == Mark(ONE, TWO, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def test_a_configuration_file_with_every_key_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIGURATION.replace("LOG", str(tmp_path / "log")))
    hvps("--config", path, "validate", "--schema")
    path.write_text(CONFIGURATION + "no_such_key: 1\n")
    hvps("--config", path, "validate", "--schema", ends=(5, 64))


@pytest.fixture
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HVPS_REPO", "HVPS_CONFIG", "HVPS_PASSWORD", "HVPS_SIM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NAMES_KEY", "first passphrase")
    monkeypatch.setenv("NAMES_OTHER", "second passphrase")


@pytest.mark.usefixtures("_own_home")
def test_variables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVPS_REPO", str(tmp_path / "nothing"))
    hvps("list", ends=(10,))
    monkeypatch.setenv("HVPS_CONFIG", str(tmp_path / "nothing"))
    hvps("validate", "--schema", ends=(5,))


@pytest.mark.usefixtures("_own_home")
def test_documents_keep_their_keys(tmp_path: Path) -> None:
    then, now = listed()["documents"], {}
    try:
        documents(tmp_path, now)
    finally:
        lost = gone({name: then[name] for name in now if name in then}, now, "documents")
        assert not lost, "\n".join(lost)
    assert not then.keys() - now.keys()


# -- adding -----------------------------------------------------------------------------------------


def _added(then: Any, now: Any) -> Any:
    """What was there, and what is new beside it; values and orders of now."""
    if isinstance(then, dict) and isinstance(now, dict):
        return {
            **{key: _added(then.get(key), value) for key, value in now.items()},
            **{k: v for k, v in then.items() if k not in now},
        }
    if isinstance(then, list) and isinstance(now, list):
        return [*now, *(item for item in then if item not in now)]
    return now if then is None else then


def _add() -> None:
    then = listed() if LIST.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {
            "XDG_CACHE_HOME": name,
            "NAMES_KEY": "first passphrase",
            "NAMES_OTHER": "another passphrase",
        }
        now = {
            "exit codes": {code.name: int(code) for code in ExitCode},
            **{part: collect() for part, collect in PARTS.items()},
            "records": records(),
            "documents": documents(folder, {}),
        }
        # An enumeration has no name here, so new ones are added by hand.
        now["words"] = then.get("words") or sorted(sorted(words) for words in all_words())
        now["numbers"] = then.get("numbers") or list(all_numbers())
    LIST.write_text(json.dumps(_added(then, now), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(_add())

"""The house rules of docs/architecture.md on imports: layers, and one door per third-party package.

Imports are read from the source with ``ast``, those inside functions and ``TYPE_CHECKING`` included, so
that a lazy import is no way round a rule.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "hvpsbridge"

GROUND = frozenset(
    {"errors", "units", "secret", "resources", "backoff", "options", "stopping", "text", "folders", "files"}
)
SEAMS = GROUND | {"formats", "contract"}
PARTS = SEAMS | {"host", "receiver", "repository", "nbd", "filesystems", "fuse", "qemu"}

# What each package may import beside itself. ``host``, ``receiver`` and ``repository`` are on one rung
# and do not know each other; neither do ``playbook`` and ``report``.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "__init__": frozenset(),
    "__main__": frozenset({"cli"}),
    **dict.fromkeys(GROUND, GROUND),
    "formats": SEAMS,
    "contract": SEAMS,
    "host": SEAMS,
    "receiver": SEAMS,
    "repository": SEAMS,
    "filesystems": SEAMS - {"contract"},
    "nbd": SEAMS - {"contract"},
    "fuse": SEAMS - {"contract"},
    "qemu": SEAMS - {"contract"},
    "tasks": PARTS,
    "playbook": PARTS | {"tasks"},
    "report": PARTS | {"tasks"},
    "sim": SEAMS - {"resources"},
    "demo": GROUND | {"sim"},
    "cli": PARTS | {"tasks", "playbook", "report", "sim", "demo"},
}

# The only modules that may import a package from elsewhere. A folder ends with a slash.
DOORS: dict[str, tuple[str, ...]] = {
    "pypsrp": ("host/psrp/",),
    "requests": ("host/psrp/",),
    "jinja2": ("host/scripts.py",),
    "pybase64": ("host/psrp/", "sim/engines/clixml.py"),
    "psrpcore": ("sim/engines/builtin.py",),
    "pyvhdi": ("sim/model/image_files.py",),
    "pytsk3": ("filesystems/tsk.py",),
    "pyfsntfs": ("filesystems/ntfs.py",),
    "pyfsfat": ("filesystems/exfat.py",),
    "pyfsxfs": ("filesystems/xfs.py",),
    "spnego": ("host/psrp/", "sim/wsman/negotiate.py"),
    "krb5": ("host/psrp/kerberos.py",),
    "gssapi": ("host/psrp/kerberos.py",),
    "yaml": ("playbook/load.py", "sim/faults.py"),
    "pydantic": ("playbook/",),
    "pydantic_core": ("playbook/",),
    "numpy": (
        "formats/index_table.py",
        "repository/chunk_index/",
        "repository/cache.py",
        "repository/verified.py",
        "repository/check/coverage.py",
    ),
    "zstandard": ("repository/compression.py",),
    "cryptography": ("repository/sealing.py", "host/shown_certificate.py", "nbd/certificates.py"),
    "obstore": ("repository/stores/s3.py",),
    "asyncssh": ("repository/stores/ssh.py", "repository/stores/sftp.py", "repository/stores/sftp_files.py"),
    "mfusepy": ("fuse/mount.py",),
    "click": ("cli/",),
    "rich": ("cli/terminal.py",),
}


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands and the dotted name it asks for."""

    module: str
    line: int
    target: str


def _imports(source: str, module: str) -> Iterator[Import]:
    package = ("hvpsbridge", *module.split("/")[:-1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join((*package[: len(package) - node.level + 1], *filter(None, [base])))
            if base == "hvpsbridge":
                for alias in node.names:
                    yield Import(module, node.lineno, f"hvpsbridge.{alias.name}")
            else:
                yield Import(module, node.lineno, base)


def _all_imports() -> list[Import]:
    return [
        found
        for path in sorted(PACKAGE.rglob("*.py"))
        for found in _imports(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix())
    ]


def _home(module: str) -> str:
    return module.split("/")[0].removesuffix(".py")


def layer_breaches(imports: list[Import]) -> list[str]:
    """Imports of our own packages that climb the layers."""
    breaches = []
    for found in imports:
        parts = found.target.split(".")
        if parts[0] != "hvpsbridge" or len(parts) == 1 or parts[1].startswith("__"):
            continue
        home = _home(found.module)
        allowed = MAY_IMPORT.get(home, frozenset()) | {home}
        if parts[1] not in allowed:
            breaches.append(f"{found.module}:{found.line} imports {found.target}")
    return breaches


def door_breaches(imports: list[Import]) -> list[str]:
    """Imports of other people's packages that do not go through their door."""
    breaches = []
    for found in imports:
        name = found.target.split(".")[0]
        if name == "hvpsbridge" or name in sys.stdlib_module_names:
            continue
        doors = DOORS.get(name, ())
        if not any(
            found.module == door or (door.endswith("/") and found.module.startswith(door)) for door in doors
        ):
            where = " or ".join(doors) or "nowhere"
            breaches.append(f"{found.module}:{found.line} imports {name}; its door is {where}")
    return breaches


def test_each_package_imports_itself_and_lower_layers_only() -> None:
    assert layer_breaches(_all_imports()) == []


def test_each_third_party_package_has_one_door() -> None:
    assert door_breaches(_all_imports()) == []


def test_every_package_of_the_tree_has_its_place_in_the_layers() -> None:
    homes = {_home(found.module) for found in _all_imports()}
    assert homes <= MAY_IMPORT.keys()


def test_no_modules_of_tasks_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for found in _all_imports():
        # The registry names the class Task in an annotation only.
        if found.module.startswith("tasks/") and found.module != "tasks/registry.py":
            module = "hvpsbridge." + found.module.removesuffix(".py").removesuffix("/__init__").replace(
                "/", "."
            )
            graph.setdefault(module, set()).add(found.target)
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("formats/extents.py", "hvpsbridge.host.session"),
        ("host/hyperv.py", "hvpsbridge.repository.points"),
        ("receiver/pump.py", "hvpsbridge.host"),
        ("tasks/backup.py", "hvpsbridge.playbook.specs"),
        ("playbook/load.py", "hvpsbridge.report.model"),
        ("sim/model.py", "hvpsbridge.tasks.backup"),
        ("tasks/backup.py", "hvpsbridge.sim.model"),
        ("errors/base.py", "hvpsbridge.formats.grid"),
    ],
)
def test_an_import_that_climbs_is_reported(module: str, target: str) -> None:
    assert layer_breaches([Import(module, 1, target)]) != []


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("tasks/backup.py", "pypsrp.wsman"),
        ("playbook/specs.py", "yaml"),
        ("cli/run.py", "rich.table"),
        ("sim/wsman.py", "pypsrp"),
        ("host/psrp/session.py", "some_unknown_package"),
    ],
)
def test_an_import_past_the_door_is_reported(module: str, target: str) -> None:
    assert door_breaches([Import(module, 1, target)]) != []


def test_imports_in_functions_under_type_checking_and_by_relative_names_are_seen() -> None:
    source = """
from . import session
from ..formats.grid import ChunkGrid
if TYPE_CHECKING:
    from hvpsbridge import cli
def lazy():
    import yaml.nodes
"""
    assert [found.target for found in _imports(source, "host/hyperv.py")] == [
        "hvpsbridge.host",
        "hvpsbridge.formats.grid",
        "hvpsbridge.cli",
        "yaml.nodes",
    ]

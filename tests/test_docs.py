"""Commands and options in README and docs exist. Links: tests/test_citations.py."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from hvpsbridge.cli.app import hvps
from hvpsbridge.errors import PRECEDENCE, ExitCode
from hvpsbridge.playbook.read import read_playbook
from hvpsbridge.resources import resource_folder

CHECKOUT = Path(__file__).resolve().parent.parent
# Its spans name derivation labels such as ``hvps data root``, not commands.
NO_COMMANDS = "format.md"
PAGES = (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
# In backquotes, in an indented block or a unit file: whatever starts with the command.
_COMMAND = re.compile(r"(?:^ {4,}|`|ExecStart=\S*/)hvps ([^`#\n]*)", re.MULTILINE)


def command_lines(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [match[1].strip().rstrip("&").strip() for match in _COMMAND.finditer(text)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != NO_COMMANDS], ids=lambda page: page.name
)
def test_every_command_and_option_in_the_documents_exists(page: Path) -> None:
    for line in command_lines(page):
        assert_known(line)


def assert_known(line: str) -> None:
    """Every option in the command line belongs to its command."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    command: click.Command = hvps
    with click.Context(hvps) as context:
        for word in words:
            options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
            if word.startswith("--"):
                assert word.split("=")[0].split("|")[0] in options, f"hvps {line}: no option {word}"
            elif isinstance(command, click.Group) and word.replace("-", "_").isidentifier():
                found = command.get_command(context, word)
                assert found is not None, f"hvps {line}: no command {word}"
                command = found


def test_readme_and_exit_codes_page_name_every_code_in_its_order() -> None:
    order = ", ".join(str(int(code)) for code in PRECEDENCE)
    for page in (CHECKOUT / "README.md", CHECKOUT / "docs" / "exit-codes.md"):
        text = page.read_text(encoding="utf-8")
        assert order in " ".join(text.split()), page.name
        for code in ExitCode:
            assert re.search(rf"^\| [0-9, ]*\b{int(code)}\b", text, re.MULTILINE), f"{page.name}: {code!r}"


def test_the_playbook_in_the_readme_is_valid(tmp_path: Path) -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "readme.yaml").write_text(block, encoding="utf-8")
    assert read_playbook(tmp_path / "readme.yaml", {}).plays


def test_the_playbooks_that_ship_are_valid() -> None:
    for path in resource_folder("playbooks").glob("*.yaml"):
        assert read_playbook(path, {}).plays

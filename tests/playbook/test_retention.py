"""Rules of retention as a playbook has them: one declaration for playbook and command line."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter, ValidationError

from hvpsbridge.cli.retention import RULE_OPTIONS
from hvpsbridge.formats.retention import Rules, Span
from hvpsbridge.formats.retention.rules import RULES
from hvpsbridge.options import options_of
from hvpsbridge.playbook.derive import model


def _read(given: dict[str, Any]) -> Rules:
    rules: Rules = TypeAdapter(model(Rules)).validate_python(given)
    return rules


def test_a_playbook_gives_rules() -> None:
    given = {
        "keep_last": 3,
        "keep_yearly": -1,
        "keep_within": "1y6m",
        "keep_tags": ["audit", "sql, gold"],
        "time_zone": "Europe/Berlin",
    }
    assert _read(given) == Rules(
        keep_last=3,
        keep_yearly=-1,
        keep_within=Span(years=1, months=6),
        keep_tags=("audit", "sql,gold"),
        time_zone="Europe/Berlin",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no retention rule is set; set at least one of keep_last"),
        ({"time_zone": "UTC"}, "no retention rule is set"),
        ({"keep_last": -2}, "greater than or equal to -1"),
        ({"keep_last": "3"}, "valid integer"),
        ({"keep_last": True}, "valid integer"),
        ({"keep_within": "30"}, "use for example 30d, 2w or 1y6m"),
        ({"keep_within": 30}, "must be text, for example 30d"),
        ({"keep_tags": ["a,,b"]}, "must be a tag"),
        ({"keep_tags": "audit"}, "valid tuple"),
        ({"keep_last": 1, "time_zone": "Mars"}, "does not know the time zone 'Mars'"),
        ({"keep_forever": 1}, "Unexpected keyword argument"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _read(given)


@click.command()
@RULE_OPTIONS
def _command(**options: Any) -> None:
    click.echo(repr(Rules(**RULE_OPTIONS.given(options))))


def test_the_command_line_gives_the_same_rules() -> None:
    words = "--keep-last 3 --keep-yearly -1 --keep-within 1y6m --keep-tag audit --keep-tag sql,gold"
    done = CliRunner().invoke(_command, [*words.split(), "--time-zone", "Europe/Berlin"])
    assert done.exit_code == 0, done.output
    wanted = Rules(
        keep_last=3,
        keep_yearly=-1,
        keep_within=Span(years=1, months=6),
        keep_tags=("audit", "sql,gold"),
        time_zone="Europe/Berlin",
    )
    assert done.output.strip() == repr(wanted)


def test_every_rule_is_an_option_with_its_help() -> None:
    done = CliRunner().invoke(_command, ["--help"])
    for name in options_of(Rules):
        assert f"--{name.replace('_', '-').replace('tags', 'tag')}" in done.output
    assert len(RULES) == len(options_of(Rules)) - 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--keep-last -2", "-2 is not in the range"),
        ("--keep-within soon", "use for example 30d, 2w or 1y6m"),
        ("--keep-tag ,", "must be a tag"),
        ("--keep-last 1 --time-zone Mars", "does not know the time zone"),
    ],
)
def test_mistakes_on_the_command_line_are_named(words: str, message: str) -> None:
    done = CliRunner().invoke(_command, words.split())
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())

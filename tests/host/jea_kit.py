"""A JEA kit as ``hvps jea`` writes it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from hvpsbridge.cli.jea import jea_


def write_kit(folder: Path) -> Path:
    """The folder of a kit whose endpoint has the folder's name."""
    done = CliRunner().invoke(jea_, [str(folder), "--group", "EXAMPLE\\backup", "--endpoint", folder.name])
    assert done.exit_code == 0, done.output
    return folder

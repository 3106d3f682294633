"""The wheel, built and installed where nothing else is, has everything that hvps needs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import hvpsbridge
from tests.once import made_once
from tests.test_demo import DEADLINE_SECONDS, proved

CHECKOUT = Path(__file__).resolve().parent.parent


def attempt(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program without anything of this checkout in its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HVPS_"))}
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )


def call(*arguments: str | Path, folder: Path) -> str:
    """Standard output of a program that must end well."""
    done = attempt(*arguments, folder=folder)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def build(folder: Path) -> None:
        call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, CHECKOUT, folder=folder)

    (path,) = made_once(tmp_path_factory, "wheel", build).glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel and what it says it needs, no extras."""

    def install(folder: Path) -> None:
        venv.create(folder / "venv")
        pip = (sys.executable, "-m", "pip", "--python", folder / "venv" / "bin" / "python")
        # Only some of what it needs is imported, and compiled then.
        call(*pip, "install", "-q", "--no-compile", wheel, folder=folder)

    return made_once(tmp_path_factory, "installed", install) / "venv" / "bin"


def test_the_wheel_holds_scripts_playbooks_licence_and_type_marker(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("ps_scripts", "playbooks"):
        shipped = {name.split(f"_data/{folder}/")[1] for name in names if f"_data/{folder}/" in name}
        here = {
            path.relative_to(CHECKOUT / folder).as_posix()
            for path in (CHECKOUT / folder).rglob("*")
            if path.is_file()
        }
        assert shipped == here
        assert here
    assert "hvpsbridge/py.typed" in names
    assert [name for name in names if name.endswith("/LICENSE")]
    assert not [name for name in names if name.startswith("tests/")]


def test_every_module_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    here = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "hvpsbridge").rglob("*.py")}
    assert here <= shipped


def test_an_installed_wheel_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert hvpsbridge.__version__ in call(installed / "hvps", "--version", folder=tmp_path)


def test_an_installed_wheel_finds_its_scripts_and_imports_every_module(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "import importlib, pkgutil, hvpsbridge\n"
        "from hvpsbridge.resources import resource_folder\n"
        "assert list(resource_folder('ps_scripts').glob('*.ps1'))\n"
        "assert list(resource_folder('playbooks').glob('*.yaml'))\n"
        "optional = {'obstore', 'asyncssh', 'pytsk3', 'pyfsntfs', 'pyfsxfs', 'pyfsfat'}\n"
        "for module in pkgutil.walk_packages(hvpsbridge.__path__, 'hvpsbridge.'):\n"
        "    if module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as err:\n"
        "        if err.name not in optional: print(module.name, 'lacks', err.name)\n"
        "print('at', hvpsbridge.__file__)\n"
    )
    said = call(installed / "python", "-c", program, folder=tmp_path)
    assert said.startswith("at "), said
    assert str(installed.parent) in said


@pytest.mark.first
@pytest.mark.timeout(DEADLINE_SECONDS + 60)
def test_an_installed_wheel_plays_the_demo_without_powershell(installed: Path, tmp_path: Path) -> None:
    done = attempt(
        *(installed / "hvps", "demo", "--small", "--json", "--folder", tmp_path / "demo"), folder=tmp_path
    )
    document = proved(done)
    assert document["engine"] == "builtin"
    assert "\x1b" not in done.stderr
    assert "run 2: hvps run nightly-backup.yaml" in done.stderr
    assert (tmp_path / "demo" / "repository").is_dir()

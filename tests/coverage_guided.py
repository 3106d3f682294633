"""Fuzz one target with coverage from atheris.

``python -m tests.coverage_guided MODULE TARGET [options of libFuzzer]``: MODULE is a test module that has
TARGETS. Install atheris first (``pip install atheris``); no test needs it. Without options it runs until it
finds a fault; ``-runs=1000000`` and ``-max_total_time=60`` end it. What it finds, and inputs that reached new
code, stay in ``.fuzz/TARGET``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from tests.fuzzing import Target, check_one

_USAGE = 64


def main(arguments: list[str]) -> int:
    """Run libFuzzer; it ends the process.

    Returns:
        64 after a wrong argument.
    """
    try:
        module, name, *options = arguments
    except ValueError:
        sys.stderr.write(f"{__doc__}\n")
        return _USAGE
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["hvpsbridge"]):
        targets: list[Target] = importlib.import_module(module).TARGETS
    named = {target.name: target for target in targets}
    if name not in named:
        sys.stderr.write(f"{module} has no target {name}; it has {', '.join(named)}\n")
        return _USAGE
    target = named[name]
    corpus = Path(".fuzz", target.name.replace(" ", "-").replace("/", "-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(target.samples):
        (corpus / f"sample-{number}").write_bytes(sample)
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-artifact_prefix={corpus}/", *options],
        lambda data: check_one(target, target.complete(data)),
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``hvps host prove``: the conformance kit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import connection_options, host_name, host_spec, json_option
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.contract.results import HostInfo, VmInfo
from hvpsbridge.errors import (
    ConfigurationError,
    ExitCode,
    HvpsError,
    RepositoryError,
    UsageError,
    VmMissing,
)
from hvpsbridge.files import replace_file
from hvpsbridge.folders import absolute
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.recording import WireRecorder
from hvpsbridge.report.documents.document import document_text
from hvpsbridge.report.documents.proved import HostProved
from hvpsbridge.report.prove_views import proved_tables
from hvpsbridge.repository import Repository
from hvpsbridge.repository.opening import create_repository, open_repository
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.host_records import HostRecords, default_state_folder
from hvpsbridge.tasks.policy import BackupLimits, BackupOptions
from hvpsbridge.tasks.prove import remote
from hvpsbridge.tasks.prove.crashing import kill_before
from hvpsbridge.tasks.prove.cycle import Cycle
from hvpsbridge.tasks.prove.findings import Findings, NotPossible
from hvpsbridge.tasks.prove.operations import Operations
from hvpsbridge.tasks.prove.prover import (
    CLEAN_UP,
    GROUPS,
    LIMIT_SECONDS,
    Prover,
    ProveResult,
    estimate_seconds,
)
from hvpsbridge.tasks.prove.remember import remember
from hvpsbridge.tasks.prove.scratch import Earlier, ScratchEntry, ScratchLedger, require_scratch
from hvpsbridge.units import MIB, duration_text, rate_text, size_text

FACTS_NAME = "facts.json"
RECORDINGS_NAME = "recordings"
REPOSITORY_NAME = "repository"
# Scratch disks are small; the host's own volume keeps this much.
FREE_SPACE_FLOOR = 2048 * MIB
DEFAULT_DISK_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the command line asks for."""

    vm: str
    only: Collection[str]
    guest: bool
    folder: Path
    dry_run: bool


@click.command("prove", short_help="Prove on a scratch VM that hvps and a host fit.")
@click.argument("host")
@click.option("--vm", required=True, metavar="NAME", help="Scratch VM that --make has made.")
@click.option("--make", is_flag=True, help="Make the scratch VM first, off and without an operating system.")
@click.option("--remove", is_flag=True, help="Remove the scratch VM at the end.")
@click.option(
    "--vm-folder",
    default="",
    metavar="PATH",
    help="Windows folder for the scratch VM [default: the host's default folder].",
)
@click.option(
    "--disk-mib",
    type=click.IntRange(64, 65536),
    default=DEFAULT_DISK_MIB,
    show_default=True,
    help="Size of the largest disk of the scratch VM, MiB.",
)
@click.option(
    "--generation",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Generation of the scratch VM that --make makes; the Linux guest needs 2, and 1 has a .vhd.",
)
@click.option("--guest", is_flag=True, help="A guest runs in the scratch VM and writes all the time.")
@click.option(
    "--only", multiple=True, type=click.Choice(GROUPS), help="Only these groups of stages; repeatable."
)
@click.option("--long", "long_", is_flag=True, help="Add a soak and hours of idling; takes a night.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for facts and recordings [default: hvps-prove-DATE].",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and how long it takes.")
@json_option
@connection_options
@click.pass_obj
def prove(
    invocation: Invocation,
    /,
    host: str,
    vm: str,
    make: bool,
    remove: bool,
    vm_folder: str,
    disk_mib: int,
    generation: int,
    guest: bool,
    only: tuple[str, ...],
    long_: bool,
    folder: Path | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Run the conformance kit against HOST, which touches no VM but the scratch VM that it made itself.

    Asks the host for facts, runs probes and hvps's own operations one by one, then a full backup, three
    increments, a crash at every step, a sweep and a restore. Each point is compared with the frozen disks.
    Writes facts.json and recordings into a folder, which hold no passwords, names or contents of disks.
    docs/real-host.md says what each outcome means. Exits with 7 if a stage failed.
    """
    if guest and make:
        raise UsageError(
            "--make makes a VM without a guest; attach the Linux disk and start it, then use --guest"
        )
    groups = tuple(only or GROUPS) + (("long",) if long_ else ())
    named = folder or Path(f"hvps-prove-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    wanted = _Wanted(vm=vm, only=groups, guest=guest, folder=absolute(named), dry_run=dry_run)
    state = default_state_folder()
    if state is None:
        raise ConfigurationError(
            "XDG_STATE_HOME",
            "is not set, and the user has no home folder: the ledger of scratch VMs needs one",
        )
    ledger = ScratchLedger(state)
    cancel = Cancellation()
    reached = compose.connection(
        host_name(host, invocation), host_spec(host, options, invocation), invocation
    )
    with ExitStack() as stack:
        if not dry_run:
            wanted.folder.mkdir(parents=True, exist_ok=True)
            if any(wanted.folder.iterdir()):
                raise ConfigurationError(str(wanted.folder), "is not empty; use a new folder")
            recorder = stack.enter_context(WireRecorder(wanted.folder / RECORDINGS_NAME))
            reached = replace(reached, recorder=recorder)

        def connect(run_id: UUID = invocation.run_id) -> HyperVHost:
            return HyperVHost.connect(reached, run_id=run_id)

        with interrupting():
            connected = stack.enter_context(connect())
            info = connected.host_info()
            if make and not dry_run:
                _make(connected, ledger, vm, vm_folder, disk_mib, generation)
            if make and dry_run:
                _require_free(connected, vm)
                # The disks of New-ScratchVm.
                size = (disk_mib + 2 * max(64, disk_mib // 16) + 64) * MIB
                _announce(groups, size, connected.checks.measure_rate().rate_bytes)
                return ExitCode.DONE
            found = _find(connected, vm)
            entry = require_scratch(connected, info, found, ledger)
            size = sum(disk.size_bytes for disk in connected.disks(found.vm_id))
            rate_bytes = connected.checks.measure_rate().rate_bytes
            _announce(groups, size, rate_bytes)
        if dry_run:
            return ExitCode.DONE
        with catch_signals(cancel, report_first):
            helper = stack.enter_context(connect())
            earlier = _earlier(invocation, entry)
            scratch = remote.HostScratch(helper, entry, guest=guest, pause=cancel.pause)
            findings = Findings(note=lambda text: console.note(f"hvps: {text}"))
            findings.fact("rate.bytes", round(rate_bytes))
            findings.fact("wire.largest_reply_bytes", recorder.largest_reply_bytes)
            place = wanted.folder / REPOSITORY_NAME
            repository = stack.enter_context(create_repository(str(place)))
            result = _run(
                wanted,
                connected,
                info,
                found,
                scratch,
                connect,
                cancel,
                findings,
                repository,
                earlier,
                partial(ledger.uses, entry, str(place), repository.repository_id),
                partial(ledger.reference_point, entry),
            )
            if CLEAN_UP in result.passed:
                ledger.clean(entry)
            # Before the removal, which may fail.
            remember(HostRecords(state), info, result)
            code = _report(wanted, result, findings.ended, as_json=as_json)
            if remove and findings.ended is None:
                left = scratch.remove()
                ledger.forget(entry)
                if left:
                    console.note(f"hvps: still on {info.name}, delete them yourself: {', '.join(left)}")
    return code


def _make(
    host: HyperVHost, ledger: ScratchLedger, name: str, folder: str, disk_mib: int, generation: int
) -> None:
    try:
        remote.make_scratch_vm(host, ledger, name, folder, disk_mib, generation)
    except NotPossible as err:
        raise ConfigurationError(f"host {host.name}", str(err)) from err


def _require_free(host: HyperVHost, name: str) -> None:
    if remote.named(host, name):
        raise ConfigurationError(f"VM {name}", f"exists on {host.name} already; use another name")


def _find(host: HyperVHost, name: str) -> VmInfo:
    found = remote.named(host, name)
    if len(found) != 1:
        raise VmMissing(host.name, name) if not found else UsageError(f"{len(found)} VMs are named {name}")
    return found[0]


def _announce(groups: Collection[str], size_bytes: int, rate_bytes: float) -> None:
    expected = estimate_seconds(groups, size_bytes, rate_bytes)
    time, rate = duration_text(expected), rate_text(round(rate_bytes), 1)
    console.note(f"hvps: {', '.join(groups)}; {size_text(size_bytes)} of disks: about {time} at {rate}")
    if expected > LIMIT_SECONDS and "long" not in groups:
        console.note("hvps: that is more than three hours; use a scratch VM with smaller disks")


def _run(
    wanted: _Wanted,
    host: HyperVHost,
    info: HostInfo,
    vm: VmInfo,
    scratch: remote.HostScratch,
    connect: Callable[[UUID], HyperVHost],
    cancel: Cancellation,
    found: Findings,
    repository: Repository,
    earlier: Earlier,
    begin: Callable[[], object],
    record: Callable[[Iterable[str]], object],
) -> ProveResult:
    limits = BackupLimits(free_space_floor=FREE_SPACE_FLOOR)
    with console.observer(quiet=True) as observer:
        operations = Operations(
            host=host,
            vm_id=vm.vm_id,
            repository_id=repository.repository_id,
            scratch=scratch,
            found=found,
            limits=limits,
            pause=cancel.pause,
            record=record,
        )
        cycle = Cycle(
            vm=vm,
            operations=operations,
            repository=repository,
            options=BackupOptions(limits=limits),
            observer=observer,
            cancel=cancel,
            found=found,
            connect=connect,
            crash=kill_before,
            folder=wanted.folder / "restored",
            earlier=earlier,
        )
        result = Prover(
            host=host,
            info=info,
            vm=vm,
            operations=operations,
            cycle=cycle,
            found=found,
            only=wanted.only,
            probes=remote.PROBES,
            begin=begin,
        ).run()
    shutil.rmtree(wanted.folder / "restored", ignore_errors=True)
    if result.proved:
        shutil.rmtree(wanted.folder / REPOSITORY_NAME, ignore_errors=True)
    return result


def _earlier(invocation: Invocation, entry: ScratchEntry) -> Earlier:
    """What a proof that was killed may have left."""
    repository = None
    if entry.repository and Path(entry.repository).is_dir():
        try:
            repository = invocation.closing.enter_context(open_repository(entry.repository))
        except RepositoryError as err:
            console.note(f"hvps: the repository of the last proof cannot be read: {err}")
    repository_id = UUID(entry.repository_id) if entry.repository_id else None
    return Earlier(repository, repository_id, frozenset(entry.reference_points))


def _report(wanted: _Wanted, result: ProveResult, ended: HvpsError | None, *, as_json: bool) -> ExitCode:
    code = ExitCode.DONE if result.proved or not result.failed else ExitCode.DAMAGE
    if ended is not None:
        code = ended.code
        console.note(f"hvps: the proof ended early: {ended}")
    document = HostProved(result=result, exit_code=int(code))
    replace_file(wanted.folder / FACTS_NAME, document_text(document))
    if as_json:
        console.document(document)
        return code
    for table in proved_tables(result):
        console.table(table)
    verdict = "proved" if result.proved else "not proved"
    console.line(f"{result.host}: {verdict} with {result.vm}; facts and recordings are in {wanted.folder}")
    return code

"""``hvps repo``: create repositories, test stores, rebuild indexes, repair, free space."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.collect import collect
from hvpsbridge.cli.declared import callback_of
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    json_option,
    repository_options,
    repository_spec,
    secret_options,
    secret_reference,
)
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.cli.stats import stats
from hvpsbridge.errors import ExitCode
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.playbook.places import RepositorySpec
from hvpsbridge.report.documents.repositories import (
    IndexRebuilt,
    Repaired,
    RepositoryCreated,
    RepositoryUpgraded,
    StoreProbed,
)
from hvpsbridge.report.views import Table
from hvpsbridge.repository import DEFAULT_CHUNK_BYTES, RebuildReport, RepairReport, create_repository
from hvpsbridge.repository.check.restore_tool import RESTORE_NAME
from hvpsbridge.repository.probe import probe as probe_store
from hvpsbridge.repository.refilling import RefillReport
from hvpsbridge.units import parse_size, size_text

# Packs between two lines of progress.
PACKS_PER_LINE = 1000


def _chunk_bytes(text: str) -> int:
    """The size of ``--chunk``."""
    return ChunkGrid(parse_size(text)).chunk_bytes


@click.group("repo")
def repo_() -> None:
    """Create, upgrade and repair repositories, free and show space, test stores, rebuild indexes."""


repo_.add_command(collect)
repo_.add_command(stats)


@repo_.command("init", short_help="Create a repository.")
@click.argument("url", required=False)
@click.option(
    "--chunk",
    "chunk_bytes",
    callback=callback_of(_chunk_bytes),
    metavar="SIZE",
    help=f"Chunk size, 64KiB to 1MiB; cannot be changed later [default: {size_text(DEFAULT_CHUNK_BYTES)}].",
)
@click.option(
    "--plain", is_flag=True, help="Do not encrypt; anyone who reads the store can read the backups."
)
@repository_options
@json_option
@click.pass_obj
def init(
    invocation: Invocation,
    /,
    url: str | None,
    chunk_bytes: int | None,
    plain: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a repository at URL, or where --repo, HVPS_REPO or the configuration file say.

    The repository is encrypted with the key of the --key options. Without one, hvps asks for a key if it
    runs on a terminal.
    """
    if url is not None:
        if options["repo"] is not None:
            raise click.UsageError("use either URL or --repo, not both")
        options["repo"] = url
    spec = repository_spec(options, invocation)
    if plain and spec.key is not None:
        raise click.UsageError("use either --plain or a key, not both")
    key = compose.repository_key(spec, invocation)
    if key is None and not plain and invocation.can_ask:
        key = invocation.new_secret(f"key of {spec.url}")
    with interrupting():
        made = create_repository(
            spec.url,
            chunk_bytes=chunk_bytes or DEFAULT_CHUNK_BYTES,
            key=key,
            cache_folder=spec.cache,
        )
        invocation.closing.enter_context(made)
    if not made.encrypted and not plain:
        console.note(
            f"hvps: {made.url} is not encrypted: anyone who can read the store can read the backups; "
            "use a key to encrypt"
        )
    if as_json:
        console.document(
            RepositoryCreated(made.repository_id, made.url, made.grid.chunk_bytes, made.encrypted)
        )
        return
    kind = "encrypted" if made.encrypted else "plain"
    console.line(
        f"created {kind} repository {made.repository_id} at {made.url}, "
        f"chunk size {size_text(made.grid.chunk_bytes)}"
    )
    if made.encrypted:
        console.line("now export its key with `hvps key export` and keep it in another place")


@repo_.command("rebuild-index", short_help="Rebuild a lost or damaged index.")
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def rebuild(invocation: Invocation, /, check: bool, as_json: bool, quiet: bool, **options: Any) -> ExitCode:
    """Rebuild a lost or damaged index from the footers of the packs.

    Adds all packs that no index lists to a new index. Index objects that cannot be read are superseded, and
    removed if the store permits it. Fails with exit code 11 while a backup or copy writes to the repository.
    Exits with 7 if a pack remains that only a damaged index object could describe.
    """

    def on_progress(done: int, count: int) -> None:
        if not quiet and (done == count or done % PACKS_PER_LINE == 0):
            console.note(f"{done} of {count} packs read")

    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        report = repository.rebuild_index(invocation.run_id, check=check, on_progress=on_progress)
    if as_json:
        console.document(IndexRebuilt(check, report.whole, report))
    else:
        _print_rebuilt(report, check)
    return ExitCode.DONE if report.whole else ExitCode.DAMAGE


def _print_rebuilt(report: RebuildReport, check: bool) -> None:
    kept = set(report.kept)
    rows = [
        (name, "superseded, but the store refused to delete it" if name in kept else "superseded and removed")
        for name in report.superseded
    ]
    rows += [(name, "damaged") for name in report.damaged if name not in report.superseded]
    rows += [(name, f"in no index; {what}") for name, what in report.unreadable]
    if rows:
        console.table(Table("index", ("object", "state"), tuple(rows)))
    verb = "would be added" if check else "added"
    console.line(
        f"{len(report.named)} of {report.packs} packs {verb} to the index ({report.frames} chunks and nodes)"
        + ("" if report.whole else "; NOT complete: run `hvps verify` to see which points are affected")
    )


@repo_.command("repair", short_help="Repair damage, and remove what remains of it.")
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@click.option("--do", "do_it", is_flag=True, help="Repair; the default without --check.")
@click.option("--from", "source", metavar="URL", help="Take lost chunks from this copy of the points.")
@secret_options("from-key", "key of the repository of --from")
@repository_options
@json_option
@click.pass_obj
def repair(
    invocation: Invocation,
    /,
    check: bool,
    do_it: bool,
    source: str | None,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Repair damage, and remove what remains of it.

    With --from, lost chunks are taken from another repository that has the same points, as one that hvps copy
    made. It may have another key, but must have the same chunk size. Run hvps verify --level hashed before,
    to find chunks that are damaged within packs. What stays lost is listed, and the next backup stores it
    again if the host still has it.

    A lost or damaged pack is taken out of the index when all of its chunks that a point needs exist in other
    packs; the last copy of a chunk is never removed. Lists of bad chunks and other small objects that say
    nothing any more are deleted if the store permits it, and a restore.py that hvps did not ship is replaced.

    Fails with exit code 11 while a backup or copy writes to the repository. Exits with 7 if chunks are lost.
    """
    if check and do_it:
        raise click.UsageError("use either --check or --do, not both")
    key = secret_reference("from-key", options)
    if key is not None and source is None:
        raise click.UsageError("--from-key-... is the key of --from, which is missing")
    refilled: RefillReport | None = None
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        if source is not None:
            other = compose.repository(RepositorySpec(source, key), invocation, remind=False)
            refilled = repository.refill(other, uuid4(), check=check)
        report = repository.repair(invocation.run_id, check=check)
    # A check leaves in place what would be taken.
    whole = report.whole if refilled is None or not check else refilled.lost == refilled.taken
    if as_json:
        console.document(Repaired(check, whole, report, refilled))
    else:
        _print_refilled(refilled, check)
        _print_repaired(report, check, whole)
    return ExitCode.DONE if whole else ExitCode.DAMAGE


def _print_refilled(report: RefillReport | None, check: bool) -> None:
    if report is not None:
        verb = "would be taken" if check else "were taken"
        console.line(f"{report.taken} of {report.lost} lost chunks and nodes {verb} from the copy")


def _print_repaired(report: RepairReport, check: bool, whole: bool) -> None:
    would = "would be " if check else ""
    kept = set(report.kept)
    rows = [(name, f"{would}taken out of the index") for name in report.dropped]
    rows += [(pack.name, f"left: {pack.what}") for pack in report.left]
    rows += [
        (name, "not needed, but the store refused to delete it" if name in kept else f"{would}deleted")
        for name in report.removed
    ]
    if report.restore_tool:
        rows.append((RESTORE_NAME, f"{would}replaced"))
    if rows:
        console.table(Table("repair", ("object", "result"), tuple(rows)))
    lost = sum(pack.lost_chunks for pack in report.left)
    if lost and not whole:
        console.line(f"{lost} chunks are lost; a backup stores them again, and --from takes them from a copy")
    elif not rows:
        console.line("nothing to repair")


@repo_.command("upgrade", short_help="Upgrade a repository to the current format.")
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@click.option("--wait/--no-wait", default=True, help="Wait for runs that use the repository [default: wait].")
@repository_options
@json_option
@click.pass_obj
def upgrade(invocation: Invocation, /, check: bool, wait: bool, as_json: bool, **options: Any) -> ExitCode:
    """Upgrade a repository to the current format, which older versions of hvps do not open.

    Points of the older format stay as they are. End all older versions of hvps that use the repository first:
    one that is running continues, and nothing can be collected until it has ended. An upgrade that was
    interrupted is finished when it is run again; until then, the repository opens as before.

    Fails with exit code 11 with --no-wait while a run uses the repository, and with 14 if the store does not
    permit replacing the settings.
    """
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        report = repository.upgrade(invocation.run_id, wait=wait, check=check)
    if as_json:
        console.document(RepositoryUpgraded(repository.repository_id, repository.url, check, report))
        return ExitCode.DONE
    if report.found == report.format and not report.finished:
        console.line(f"{repository.url} has format {report.format} already")
    elif check:
        console.line(f"{repository.url} would be upgraded from format {report.found} to {report.format}")
    else:
        console.line(f"upgraded {repository.url} from format {report.found} to {report.format}")
    return ExitCode.DONE


@repo_.command("probe", short_help="Test whether a store is suitable for a repository.")
@click.argument("url", required=False)
@repository_options
@json_option
@click.pass_obj
def probe(invocation: Invocation, /, url: str | None, as_json: bool, **options: Any) -> ExitCode:
    """Test whether the store at URL is suitable for a repository.

    Creates objects of its own there, and removes them as far as the credentials permit. Exits with 10 if the
    store does not do what a repository needs.
    """
    if url is not None:
        options["repo"] = url
    spec = repository_spec(options, invocation)
    with interrupting():
        report = probe_store(spec.url)
    if as_json:
        console.document(StoreProbed(report.fit, report))
    else:
        rows = tuple(
            (finding.question, finding.holds.value, "yes" if finding.needed else "", finding.detail)
            for finding in report.findings
        )
        console.table(Table("store", ("question", "answer", "required", "observed"), rows))
        console.line(f"{report.url}: {'' if report.fit else 'NOT '}suitable for a repository")
    return ExitCode.DONE if report.fit else ExitCode.NO_REPOSITORY

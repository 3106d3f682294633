"""Checks across the keys of a playbook: names that must be declared, keys that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from hvpsbridge.playbook import load
from hvpsbridge.playbook.load import Tree
from hvpsbridge.playbook.problems import PlaybookProblem, nearest, path_text
from hvpsbridge.playbook.specs import PlaybookSpec
from hvpsbridge.repository.stores.urls import url_problem
from hvpsbridge.tasks.registry import find_task
from hvpsbridge.tasks.task import Scope


def cross_check(spec: PlaybookSpec, tree: Tree) -> Iterator[PlaybookProblem]:
    """Mistakes in a playbook whose keys are all valid by themselves."""

    def problem(path: load.Path, what: str) -> PlaybookProblem:
        return PlaybookProblem(load.mark_of(tree, path), path_text(path), what)

    for name, host in spec.hosts.items():
        yield from (problem(("hosts", name, key), what) for key, what in host.problems())
    for name, repository in spec.repositories.items():
        if what := url_problem(repository.url):
            yield problem(("repositories", name, "url"), what)
    for index, play in enumerate(spec.plays):
        here: load.Path = ("plays", index)
        for number, pattern in enumerate(play.hosts):
            if not matching_hosts(spec, pattern):
                yield problem(
                    (*here, "hosts", number),
                    f"no host {pattern!r} in this file{nearest(pattern, spec.hosts)}",
                )
        if play.repository not in spec.repositories:
            yield problem(
                (*here, "repository"),
                f"no repository {play.repository!r} in this file"
                + nearest(play.repository, spec.repositories),
            )
        once = ""
        for number, task in enumerate(play.tasks):
            kind, at = find_task(task.kind), (*here, "tasks", number, task.kind)
            if kind.scope is not Scope.VM:
                once = once or task.kind
            elif once:
                yield problem(at, f"must come before {once}, which is done once, after the tasks of all VMs")
            if what := kind.conflict(task.options):
                yield problem(at, what)
            for named in kind.hosts(task.options):
                if named not in spec.hosts:
                    yield problem(at, f"no host {named!r} in this file{nearest(named, spec.hosts)}")


def matching_hosts(spec: PlaybookSpec, pattern: str) -> tuple[str, ...]:
    """Names of the hosts of the playbook that match a pattern: ``all``, a name or a shell pattern."""
    if pattern == "all":
        return tuple(spec.hosts)
    return tuple(name for name in spec.hosts if name == pattern or fnmatchcase(name, pattern))

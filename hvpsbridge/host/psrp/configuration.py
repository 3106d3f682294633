"""Reads the limits of a host's WinRM service and of its PowerShell endpoint, by WSMan Get."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from pypsrp.wsman import SelectorSet, WSMan

from hvpsbridge.errors import HvpsError

logger = logging.getLogger(__name__)

CONFIG_URI = "http://schemas.microsoft.com/wbem/wsman/1/config"


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRmLimits:
    """Limits of WinRM on a host; None for each that could not be read.

    Where the service and the endpoint have a limit each, the smaller one is given
    (docs/hyperv-facts.md#winrm-configuration).

    Attributes:
        shells_per_user: ``MaxShellsPerUser``.
        shell_memory_mb: ``MaxMemoryPerShellMB``.
        processes_per_shell: ``MaxProcessesPerShell``; the compiler is one.
        operations_per_user: ``MaxConcurrentOperationsPerUser``.
        envelope_kb: ``MaxEnvelopeSizekb``.
        idle_ms: ``IdleTimeout`` of shells for which the client asks for none.
        max_idle_ms: ``MaxIdleTimeoutms``, the longest that a client may ask for.
        run_ms: ``MaxShellRunTime``.
    """

    shells_per_user: int | None = None
    shell_memory_mb: int | None = None
    processes_per_shell: int | None = None
    operations_per_user: int | None = None
    envelope_kb: int | None = None
    idle_ms: int | None = None
    max_idle_ms: int | None = None
    run_ms: int | None = None


def read_limits(wsman: WSMan, endpoint_name: str) -> WinRmLimits:
    """The limits, as far as the account may read them; each part alone may be unreadable."""
    service, endpoint = _service(wsman), _endpoint(wsman, endpoint_name)

    def least(*names: str) -> int | None:
        return min(
            (part[name] for part in (service, endpoint) for name in names if name in part), default=None
        )

    return WinRmLimits(
        shells_per_user=least("MaxShellsPerUser"),
        shell_memory_mb=least("MaxMemoryPerShellMB"),
        processes_per_shell=least("MaxProcessesPerShell"),
        operations_per_user=least("MaxConcurrentOperationsPerUser"),
        envelope_kb=least("MaxEnvelopeSizekb"),
        idle_ms=least("IdleTimeout", "IdleTimeoutms"),
        max_idle_ms=least("MaxIdleTimeoutms"),
        run_ms=least("MaxShellRunTime"),
    )


def _service(wsman: WSMan) -> Mapping[str, int]:
    config = _get(wsman, CONFIG_URI, None)
    if config is None:
        return {}
    return _numbers({element.tag.rpartition("}")[2]: element.text or "" for element in config.iter()})


def _endpoint(wsman: WSMan, name: str) -> Mapping[str, int]:
    selectors = SelectorSet()
    selectors.add_option("Name", name)
    config = _get(wsman, f"{CONFIG_URI}/plugin", selectors)
    found = [] if config is None else [one for one in config.iter() if one.tag.endswith("}Quotas")]
    return _numbers(found[0].attrib) if found else {}


def _get(wsman: WSMan, uri: str, selectors: SelectorSet | None) -> ElementTree.Element | None:
    try:
        body: ElementTree.Element = wsman.get(uri, selector_set=selectors)
    except HvpsError:  # a signal or a deadline
        raise
    except Exception as err:  # noqa: BLE001 - a limit that cannot be read is reported as such
        logger.debug("cannot read %s: %s", uri, type(err).__name__)
        return None
    return body


def _numbers(texts: Mapping[str, str]) -> dict[str, int]:
    return {
        name: int(text)
        for name, text in texts.items()
        if text.isascii() and text.isdecimal() and len(text) <= 20
    }

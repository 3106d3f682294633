"""A real MIT Kerberos realm for tests: a KDC on the loopback interface, with everything in one folder.

Nothing of the machine's own Kerberos configuration is read or changed; no rights are needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import unavailable
from tests.ports import ReservedPort

REALM = "HVPS.TEST"
USER = "backup"
PRINCIPAL = f"{USER}@{REALM}"
PASSWORD = "canary-3b9f"
# pypsrp asks for host/NAME, which every computer account of a domain answers to.
SERVICE = f"host/localhost@{REALM}"
TOOLS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "kdestroy")
START_SECONDS = 120.0

_CONFIGURATION = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    kdc_timesync = {timesync}
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    localhost = {realm}
    127.0.0.1 = {realm}
"""
_KDC_CONFIGURATION = """
[kdcdefaults]
    kdc_listen = ""
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/kadm5.acl
        max_life = 1h
        max_renewable_life = 1h
        supported_enctypes = {enctypes}
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""


def need_kerberos() -> None:
    """Skip, or fail in CI, when a tool or module for Kerberos is not installed."""
    lacking = [tool for tool in TOOLS if _found(tool) is None]
    try:
        import gssapi  # noqa: F401 - only whether it is there
        import krb5  # noqa: F401
    except ImportError as err:
        lacking.append(f"the extra hvpsbridge[kerberos] ({err})")
    if lacking:
        text = f"no Kerberos: {', '.join(lacking)} missing; see tools/debian-packages"
        unavailable(text)


def _found(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class Realm:
    """A realm with one user and one host service; a context manager that runs its KDC.

    Attributes:
        folder: holds all of it.
        enctypes: of its keys, in MIT's words.
        ahead_seconds: how far the KDC's clock is ahead of the true time.
        timesync: whether clients take the KDC's clock for the true one, as MIT's do by default.
    """

    folder: Path
    enctypes: str = "aes256-cts-hmac-sha1-96:normal"
    ahead_seconds: int = 0
    timesync: bool = True
    _reserved: ReservedPort = field(default_factory=ReservedPort)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where its KDC listens, by TCP alone."""
        return self._reserved.number

    @property
    def keytab(self) -> Path:
        """Keys of the host's service."""
        return self.folder / "host.keytab"

    @property
    def user_keytab(self) -> Path:
        """Keys of the user."""
        return self.folder / "user.keytab"

    @property
    def environment(self) -> dict[str, str]:
        """What points programs at this realm, with an empty credential cache."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.folder / 'cache'}",
            "KRB5_CLIENT_KTNAME": str(self.folder / "none.keytab"),
            # The acceptor in the simulated host would write its replay cache to /var/tmp.
            "KRB5RCACHENAME": f"dfl:{self.folder / 'replays'}",
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = {"realm": REALM, "port": self.port, "folder": self.folder, "enctypes": self.enctypes}
        timesync = 1 if self.timesync else 0
        (self.folder / "krb5.conf").write_text(_CONFIGURATION.format(**words, timesync=timesync))
        (self.folder / "kdc.conf").write_text(_KDC_CONFIGURATION.format(**words))
        (self.folder / "kadm5.acl").write_text("")
        self.run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        self.administer(f"addprinc -pw {PASSWORD} +requires_preauth {PRINCIPAL}")
        self.administer(f"addprinc -randkey {SERVICE}")
        self.administer(f"ktadd -k {self.keytab} {SERVICE}")
        self.administer(f"ktadd -k {self.user_keytab} -norandkey {PRINCIPAL}")
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._reserved.close()

    def _start(self) -> None:
        kdc = [str(_found("krb5kdc")), "-n"]
        if self.ahead_seconds:
            kdc = [str(shutil.which("faketime")), "-f", f"+{self.ahead_seconds}s", *kdc]
        self._process = subprocess.Popen(
            kdc,
            env=self._all(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        raise AssertionError(f"the KDC does not start: {self._log()}")

    def stop(self) -> None:
        """End the KDC; tickets stay good."""
        if self._process is not None:
            # The group: faketime is the parent of the KDC, which would outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
            self._process = None

    def administer(self, command: str) -> None:
        """One command of kadmin.local."""
        self.run("kadmin.local", "-r", REALM, "-q", command)

    def kinit(self, *options: str) -> None:
        """A ticket of the user in the cache, by its password."""
        self.run("kinit", *options, PRINCIPAL, said=f"{PASSWORD}\n")

    def kdestroy(self) -> None:
        """Empty the cache."""
        self.run("kdestroy", "-q")

    def run(self, tool: str, *arguments: str, said: str = "") -> None:
        """A Kerberos program, in this realm."""
        done = subprocess.run(
            [str(_found(tool)), *arguments],
            env=self._all(),
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{tool} {arguments}: {done.stdout}{done.stderr}{self._log()}"

    def _all(self) -> Mapping[str, str]:
        return {**os.environ, **self.environment}

    def _log(self) -> str:
        log = self.folder / "kdc.log"
        return log.read_text() if log.exists() else "no log"

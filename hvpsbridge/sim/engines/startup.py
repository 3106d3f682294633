"""The script that runs in each shell before its client's first command: ``sim/powershell/Startup.ps1``.

Windows has startup scripts of session configurations. ``pwsh -s`` has none, so the engine starts a pipeline
that the client does not see.
"""

from __future__ import annotations

import binascii
import logging
import struct
import uuid
from functools import cache
from pathlib import Path

from hvpsbridge.sim.engines import clixml
from hvpsbridge.sim.native import user_cache
from hvpsbridge.units import KIB

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent.parent / "powershell"
_CREATE_PIPELINE = 0x00021006
_ERROR_RECORD = 0x00041005
_PIPELINE_STATE = 0x00041006
_MESSAGE_KIND_AT = struct.calcsize(">QQBI") + 4
_POOL_ID_AT = _MESSAGE_KIND_AT + 4
_UUID_BYTES = 16
# .NET puts objects from 85,000 bytes on into the heap that only full collections clean. The transport of pwsh
# makes text of 87,400 bytes of each fragment, twice; WinRM passes bytes. Measured without this: 0.9 full
# collections per MiB read, and 8 of 20 CPU seconds for a GB.
_LARGE_OBJECT_BYTES = 192 * KIB
# PSInvocationState: Stopped, Completed, Failed.
_FINAL_STATES = (b">3<", b">4<", b">5<")
# CREATE_PIPELINE for one script without parameters, input or host, in any runspace ([MS-PSRP] 2.2.2.10).
_PIPELINE = (
    '<Obj RefId="0"><MS><B N="NoInput">true</B>'
    '<Obj N="ApartmentState" RefId="1"><ToString>Unknown</ToString><I32>2</I32></Obj>'
    '<Obj N="RemoteStreamOptions" RefId="2"><ToString>None</ToString><I32>0</I32></Obj>'
    '<B N="AddToHistory">false</B>'
    '<Obj N="HostInfo" RefId="3"><MS><B N="_isHostNull">true</B><B N="_isHostUINull">true</B>'
    '<B N="_isHostRawUINull">true</B><B N="_useRunspaceHost">true</B></MS></Obj>'
    '<Obj N="PowerShell" RefId="4"><MS><Obj N="Cmds" RefId="5"><LST><Obj RefId="6"><MS>'
    '<S N="Cmd">{script}</S><B N="IsScript">true</B><Nil N="UseLocalScope" />'
    '<Obj N="MergeMyResult" RefId="7"><ToString>None</ToString><I32>0</I32></Obj>'
    '<Obj N="MergeToResult" RefId="8"><ToString>None</ToString><I32>0</I32></Obj>'
    '<Obj N="MergePreviousResults" RefId="9"><ToString>None</ToString><I32>0</I32></Obj>'
    '<Obj N="Args" RefId="10"><LST /></Obj></MS></Obj></LST></Obj>'
    '<B N="IsNested">false</B><Nil N="History" /><B N="RedirectShellErrorOutputPipe">true</B></MS></Obj>'
    '<B N="IsNested">false</B></MS></Obj>'
)


def environment(pwsh: Path) -> dict[str, str]:
    """Variables for a shell's process. Creates the folder for compiled assemblies."""
    compiled = user_cache() / "compiled"
    compiled.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "HVPS_SIM_PWSH": str(pwsh),
        "HVPS_SIM_COMPILER": str(_FOLDER / "Compile.ps1"),
        "HVPS_SIM_COMPILED": str(compiled),
        # .NET reads the number as hexadecimal.
        "DOTNET_GCLOHThreshold": f"{_LARGE_OBJECT_BYTES:x}",
    }


class Startup:
    """The pipeline that runs the script in one shell.

    Attributes:
        key: its id, in lower case.
        done: whether it has ended.
    """

    def __init__(self, pool_fragments: bytes, *, restricted: bool = False) -> None:
        """Prepare the pipeline.

        Args:
            pool_fragments: the fragments in base64 with which the client opened its pool.
            restricted: make the session that of a JEA endpoint.
        """
        self.key = str(uuid.uuid4())
        self.done = False
        self._restricted = restricted
        first = binascii.a2b_base64(pool_fragments)
        self._pool_id = uuid.UUID(bytes_le=first[_POOL_ID_AT : _POOL_ID_AT + _UUID_BYTES])

    def fragments(self) -> bytes:
        """The message that starts the pipeline, in base64."""
        data = clixml.message(
            _CREATE_PIPELINE,
            self._pool_id,
            uuid.UUID(self.key),
            _PIPELINE.format(script=clixml.escape(_script(self._restricted))).encode(),
            destination=clixml.TO_SERVER,
        )
        return b"".join(clixml.fragments(1, data))

    def take(self, fragment: bytes | memoryview) -> None:
        """Take a fragment of the pipeline's output, in base64, to find out whether it has ended."""
        message = binascii.a2b_base64(fragment)
        (kind,) = struct.unpack_from("<I", message, _MESSAGE_KIND_AT)
        if kind == _ERROR_RECORD:
            logger.warning(
                "startup script of a simulated host: %s", message[_POOL_ID_AT:].decode(errors="replace")
            )
        elif kind == _PIPELINE_STATE and any(state in message for state in _FINAL_STATES):
            self.done = True
            if b">4<" not in message:
                logger.warning("startup script of a simulated host failed; it compiles inside its processes")


@cache
def _script(restricted: bool) -> str:
    names = ("Startup.ps1", "Restrict.ps1") if restricted else ("Startup.ps1",)
    return "\n".join((_FOLDER / name).read_text() for name in names)


__all__ = ["Startup", "environment"]

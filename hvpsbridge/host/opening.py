"""Opens shells on hosts. A JEA endpoint must have the commands of this very version of hvps."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.contract import CONTRACT
from hvpsbridge.errors import EndpointDiffers, OperationFailed
from hvpsbridge.host.binding import BindingError, bind_result
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.jea import KIT_INFO, KitInfo, kit_digest
from hvpsbridge.host.psrp.session import Session


def open_session(connection: HostConnection, run_id: UUID | None = None) -> Session:
    """Open a shell on the host, as :meth:`Session.open`.

    Raises:
        EndpointDiffers: the JEA endpoint has no kit, or that of another version.
        HostError: as :meth:`Session.open`.
    """
    session = Session.open(connection, run_id)
    if connection.jea is None:
        return session
    try:
        problem = _difference(session)
    except BaseException:
        session.close()
        raise
    if problem:
        session.close()
        raise EndpointDiffers(connection.name, connection.jea, problem)
    return session


def _difference(session: Session) -> str:
    """Why the endpoint of a session cannot be used; empty if it can."""
    try:
        emitted = list(session.run(KIT_INFO.name, None, {}, KIT_INFO.deadline_seconds))
        (info,) = (bind_result(KitInfo, item.type_names, item.properties) for item in emitted)
    except OperationFailed as err:
        return f"it has no {KIT_INFO.name}: {err.message}"
    except (BindingError, ValueError) as err:
        return f"{KIT_INFO.name} answers something else: {err}"
    if info == KitInfo(CONTRACT, kit_digest()):
        return ""
    return f"its commands are those of another version of hvps (contract {info.contract}, {info.digest[:12]})"

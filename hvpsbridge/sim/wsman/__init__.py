"""The WSMan service of a simulated host: HTTP, SOAP, shells, and fragments for an engine.

Nothing here depends on the engine, or on the meaning of a fragment, except which fragment of a pipeline is
the last (``outbox``), which ones are blocks of a disk (``tampering``) and what readers request
(``counters``). Fragments remain in base64, so bulk data is copied but not decoded.

- ``names``: URIs, namespaces and fault codes.
- ``envelope``: parsed requests, and the bytes of replies and faults.
- ``exchange``: a request's caller and the reply to it.
- ``outbox``: fragments that wait for a Receive, with backpressure.
- ``shells``: shells and their commands, quotas and idle time.
- ``listing``: shells and commands as Enumerate shows them.
- ``shell_actions``, ``command_actions``: one method per WSMan action.
- ``service``: dispatches requests to them.
- ``auth``, ``negotiate``, ``mutual``: authentication and message encryption.
- ``connection_faults``, ``tampering``: faults of connections and of an engine's output.
- ``counters``: what was requested and sent.
- ``http``: one connection.
- ``tls``: certificates.
- ``listener``: the socket and its threads.
"""

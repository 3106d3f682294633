"""The simulated host's WSMan service: HTTP in, SOAP understood, shells kept, fragments handed to an engine.

Rule: nothing here knows what a fragment means, except where a pipeline's last one is (``outbox``), which
ones are blocks of a disk (``tampering``) and what readers are asked for (``counters``); and nothing here
knows which engine answers. Fragments stay in the base64 they travel in, so that bulk data is
copied but never decoded on its way through.

- ``names``: URIs, namespaces and fault codes.
- ``envelope``: a request's parts, and the bytes of replies and faults.
- ``outbox``: fragments that wait for a Receive, with back-pressure.
- ``shells``: shells and their commands, quotas and idle time.
- ``listing``: shells and commands as they are shown.
- ``service``: one method per WSMan action.
- ``auth``, ``negotiate``: who is asking, and message sealing.
- ``connection_faults``, ``tampering``: where armed faults happen, to connections and to an engine's output.
- ``counters``: what was asked for and sent.
- ``http``: one connection: requests and replies.
- ``listener``: the socket, its threads, TLS.
"""

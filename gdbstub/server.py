"""The server: listens, and gives each connection a target, a session and a nursery of its own. trio."""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Callable, Sequence

import trio

from gdbstub.addresses import Address, StdioAddress, is_local
from gdbstub.connection import Connection
from gdbstub.listen import SocketTransport, listening, peer_allowed, peer_name, stdio_stream
from gdbstub.session import Session
from gdbstub.target import Client, Target

OpenTarget = Callable[[Client], Target]

MAX_CONNECTIONS = 64
"""Connections at a time; more are closed at once."""


async def serve_stream(
    open_target: OpenTarget, stream: trio.abc.Stream, client: Client, *, run_length: bool = False
) -> None:
    """Serve one connection that exists already, until it ends."""
    log = logging.getLogger("gdbstub.server")
    log.info("%s: connected", client.name)
    try:
        connection = Connection(open_target(client), stream, client, Session(run_length=run_length))
    except Exception:
        log.exception("%s: no target for this connection", client.name)
        await trio.aclose_forcefully(stream)
        return
    await connection.run()


async def serve(
    open_target: OpenTarget,
    addresses: Sequence[Address],
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on all `addresses` until cancelled, or until the client on standard input leaves.

    `open_target` is called for each connection and gives its target. `task_status` gets the names of the
    bound addresses (a port 0 shows the port chosen). Raises OSError when an address cannot be bound.
    """
    numbers = itertools.count(1)
    limit = trio.CapacityLimiter(MAX_CONNECTIONS)
    log = logging.getLogger("gdbstub.server")

    async def accept(stream: trio.SocketStream) -> None:
        # A client whose machine went away without a word does not keep the target for ever.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client = Client(peer_name(stream), next(numbers))
        if not peer_allowed(stream):
            log.warning("%s: refused: another user", client.name)
        elif limit.available_tokens < 1:
            log.warning("%s: refused: %d connections already", client.name, MAX_CONNECTIONS)
        else:
            async with limit:
                await serve_stream(open_target, SocketTransport.of(stream), client)
                return
        await trio.aclose_forcefully(stream)

    async with listening(addresses) as (listeners, names), trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(trio.serve_listeners, accept, [listener])
        for name in names:
            if not is_local(name):
                log.warning("%s: anybody who reaches this address controls the target", name)
        task_status.started(names)
        if any(isinstance(address, StdioAddress) for address in addresses):
            await serve_stream(open_target, stdio_stream(), Client("stdio", next(numbers)))
            nursery.cancel_scope.cancel()
        elif listeners:
            await trio.sleep_forever()

"""A bare trio server for comparison: whatever comes, the same reply. ``echo LENGTH:ACK`` as a program.

What is lost against it is lost between the socket and the machine.
"""

import sys
from functools import partial

import trio


async def serve_echo(length: int, ack: bool) -> None:
    """Answer every arrival with `length` bytes, an acknowledgement before them if `ack`."""
    packet = b"+" * ack + b"$" + b"0" * (length - 4) + b"#00"

    async def answer(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some(1 << 16):
                await stream.send_all(packet)
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", file=sys.stderr, flush=True)
    await trio.serve_listeners(answer, listeners)


if __name__ == "__main__":
    size, _, acknowledged = sys.argv[1].partition(":")
    trio.run(partial(serve_echo, int(size), acknowledged == "1"))

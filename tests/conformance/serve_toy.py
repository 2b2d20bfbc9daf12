"""Our server with a toy target of every capability: ``python -m tests.conformance.serve_toy PORT``."""

import sys
from functools import partial

import trio

from gdbstub.addresses import TcpAddress
from gdbstub.server import serve
from tests.helpers.serve_toy import full_toy_with_programs

if __name__ == "__main__":
    target = full_toy_with_programs()
    trio.run(partial(serve, lambda _: target, [TcpAddress(int(sys.argv[1]))]))

"""Addresses, and the server on real sockets."""

import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import gdbstub
from gdbstub.addresses import Address, StdioAddress, TcpAddress, UnixAddress, is_local, parse_address
from gdbstub.client import Client
from gdbstub.server import serve
from tests.helpers.toy_target import ToyTarget


def opener(target: ToyTarget) -> Callable[[gdbstub.Client], gdbstub.Target]:
    return lambda _: target


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1234", TcpAddress(1234, "127.0.0.1")),
        (":1234", TcpAddress(1234, "127.0.0.1")),
        ("0.0.0.0:1", TcpAddress(1, "0.0.0.0")),
        ("[::1]:65535", TcpAddress(65535, "::1")),
        ("localhost:0", TcpAddress(0, "localhost")),
        ("unix:/run/x y", UnixAddress("/run/x y")),
        ("stdio", StdioAddress()),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":", "65536", "host", "host:", "1:2:3", "unix:", "-1", "1 ", "::1:5"])
def test_what_is_no_address_is_refused_with_one_line(text: str) -> None:
    with pytest.raises(gdbstub.AddressError) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "local"), [("127.0.0.1:5", True), ("[::1]:5", True), ("unix:/x", True), ("0.0.0.0:5", False)]
)
def test_only_loopback_and_unix_are_local(name: str, local: bool) -> None:
    assert is_local(name) is local


async def test_a_loopback_port_is_served_and_reconnecting_works() -> None:
    target = ToyTarget()
    async with trio.open_nursery() as nursery:
        [name] = await nursery.start(serve, opener(target), [parse_address("0")])
        assert name.startswith("127.0.0.1:")
        for _ in range(3):
            client = Client(await trio.open_tcp_stream("127.0.0.1", int(name.rpartition(":")[2])))
            await client.start()
            assert (await client.request(b"?")).startswith(b"T05")
            assert await client.request(b"D") == b"OK"
            await client.aclose()
        nursery.cancel_scope.cancel()
    assert target.detached == [gdbstub.Detach.RESUME] * 3


async def test_a_port_in_use_is_an_os_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use") as caught:
            await serve_alone(TcpAddress(taken.getsockname()[1]))
    assert "in use" in str(caught.value)


async def serve_alone(address: Address) -> None:
    await serve(opener(ToyTarget()), [address])


async def test_stopping_the_server_detaches_its_clients() -> None:
    target = ToyTarget()
    async with trio.open_nursery() as nursery:
        [name] = await nursery.start(serve, opener(target), [parse_address("0")])
        client = Client(await trio.open_tcp_stream("127.0.0.1", int(name.rpartition(":")[2])))
        await client.request(b"?")
        nursery.cancel_scope.cancel()
    assert target.detached == [gdbstub.Detach.LOST]
    await client.aclose()


async def test_a_unix_socket_is_for_its_owner_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    async with trio.open_nursery() as nursery:
        names = await nursery.start(serve, opener(ToyTarget()), [UnixAddress(str(path))])
        assert names == [f"unix:{path}"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client = Client(await trio.open_unix_socket(str(path)))
        assert (await client.request(b"?")).startswith(b"T05")
        await client.aclose()
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "gdb")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, opener(ToyTarget()), [UnixAddress(path)])
        with pytest.raises(OSError, match="in use"):
            await serve_alone(UnixAddress(path))
        nursery.cancel_scope.cancel()


async def test_a_file_is_never_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        await serve_alone(UnixAddress(str(path)))
    assert path.read_text() == "mine"


async def test_a_bug_in_opening_a_target_closes_that_connection_only() -> None:
    fine = ToyTarget()
    outcomes: list[Exception | ToyTarget] = [KeyError("bug"), fine]

    def open_target(client: gdbstub.Client) -> gdbstub.Target:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with trio.open_nursery() as nursery:
        [name] = await nursery.start(serve, open_target, [parse_address("0")])
        port = int(name.rpartition(":")[2])
        broken = await trio.open_tcp_stream("127.0.0.1", port)
        assert await broken.receive_some() == b""
        await broken.aclose()
        client = Client(await trio.open_tcp_stream("127.0.0.1", port))
        assert (await client.request(b"?")).startswith(b"T05")
        await client.aclose()
        nursery.cancel_scope.cancel()

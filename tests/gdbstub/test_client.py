"""The client's half, against scripted servers."""

import pytest
import trio
import trio.testing

from gdbstub.client import Client, ClientSession, parse_stop
from gdbstub.errors import ConnectionLostError, ProtocolError, RemoteError
from gdbstub.framing import frame


async def scripted(*replies: bytes) -> tuple[Client, trio.abc.Stream]:
    """A client to whom `replies` are sent as raw bytes, and the server's end."""
    ours, theirs = trio.testing.memory_stream_pair()
    for reply in replies:
        await theirs.send_all(reply)
    return Client(ours), theirs


async def test_a_reply_is_acknowledged() -> None:
    client, server = await scripted(b"+" + frame(b"OK"))
    assert await client.request(b"qX") == b"OK"
    assert await server.receive_some() == b"$qX#c9+"


async def test_a_run_length_encoded_reply_is_expanded() -> None:
    client, _ = await scripted(b"$0* #7a")
    assert await client.request(b"m0,2") == b"0000"


async def test_console_text_is_collected() -> None:
    client, _ = await scripted(frame(b"O6869"), frame(b"O21"), frame(b"OK"))
    assert await client.request(b"qRcmd,00") == b"OK"
    assert client.console == b"hi!"


async def test_a_damaged_reply_is_asked_for_again() -> None:
    client, server = await scripted(b"$OK#00", frame(b"OK"))
    assert await client.request(b"H") == b"OK"
    assert (await server.receive_some()).endswith(b"-+")


@pytest.mark.parametrize("reply", [b"", b"E01", b"E.no"])
async def test_an_error_or_empty_reply_is_an_exception(reply: bytes) -> None:
    client, _ = await scripted(frame(reply))
    with pytest.raises(RemoteError) as caught:
        await client.require(b"m0,1")
    assert caught.value.reply == reply


async def test_three_digits_of_data_that_start_with_e_are_data() -> None:
    client, _ = await scripted(frame(b"E0ff"))
    assert await client.require(b"m0,2") == b"E0ff"


async def test_a_closed_server_is_a_lost_connection() -> None:
    client, server = await scripted()
    await server.aclose()
    with pytest.raises(ConnectionLostError):
        await client.request(b"g")


def test_an_endless_reply_is_refused() -> None:
    session = ClientSession(max_reply=1000)
    session.receive_data(b"$" + b"0" * 1002)
    with pytest.raises(ProtocolError):
        session.next_packet()


def test_a_stop_reply_is_taken_apart() -> None:
    stop = parse_stop(b"T05thread:2;core:1;10:0010;6:ff;swbreak:;watch:2000;")
    assert (stop.kind, stop.number, stop.thread) == ("T", 5, 2)
    assert stop.registers == {16: b"\x00\x10", 6: b"\xff"}
    assert stop.keys == {"thread": "2", "core": "1", "swbreak": "", "watch": "2000"}
    assert (parse_stop(b"W21").kind, parse_stop(b"W21").number) == ("W", 33)


@pytest.mark.parametrize("reply", [b"", b"OK", b"E01", b"Tzz"])
def test_anything_else_is_no_stop_reply(reply: bytes) -> None:
    with pytest.raises(ValueError):
        parse_stop(reply)

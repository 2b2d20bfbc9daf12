"""Framing: what stands on the wire, and that hostile bytes stay bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub import framing
from gdbstub.errors import ProtocolError
from gdbstub.framing import Ack, BadPacket, Decoder, Interrupt, Nack, Notification, Packet, Unit

LIMIT = 1 << 16


def units(decoder: Decoder, data: bytes) -> list[Unit]:
    decoder.receive_data(data)
    found = []
    while (unit := decoder.next_unit()) is not None:
        found.append(unit)
    return found


def server_decoder() -> Decoder:
    return Decoder(LIMIT, greeting=True)


def client_decoder() -> Decoder:
    return Decoder(LIMIT, replies=True)


def test_the_manuals_examples_have_these_checksums() -> None:
    assert framing.frame(b"OK") == b"$OK#9a"
    assert framing.frame(b"") == b"$#00"
    assert framing.frame(b"?") == b"$?#3f"


@given(st.binary(max_size=3000))
def test_the_checksum_is_the_sum_modulo_256(raw: bytes) -> None:
    assert framing.checksum(raw) == sum(raw) % 256


def test_the_bytes_with_a_meaning_are_escaped() -> None:
    assert framing.escape(b"a#$}*b") == b"a}\x03}\x04}]}\nb"
    assert framing.escaped_size(b"a#$}*b") == 10


@given(st.binary(max_size=2000))
def test_a_server_reads_back_what_was_framed(payload: bytes) -> None:
    assert units(server_decoder(), framing.frame(payload)) == [Packet(payload)]


@given(st.binary(max_size=2000), st.booleans())
def test_a_client_reads_back_what_was_framed(payload: bytes, run_length: bool) -> None:
    assert units(client_decoder(), framing.frame(payload, run_length=run_length)) == [Packet(payload)]


@given(
    st.lists(
        st.tuples(st.sampled_from([b"0", b"f", b"}", b"*", b"#", b"]"]), st.integers(1, 300)), max_size=8
    )
)
def test_runs_survive_run_length_encoding(runs: list[tuple[bytes, int]]) -> None:
    payload = b"".join(byte * count for byte, count in runs)
    framed = framing.frame(payload, run_length=True)
    assert units(client_decoder(), framed) == [Packet(payload)]


def test_a_run_is_written_as_the_manual_says() -> None:
    assert framing.compress(b"0000") == b"0* "
    assert framing.compress(b"000") == b"000"


@pytest.mark.parametrize("length", range(4, 120))
def test_no_run_length_looks_like_framing(length: int) -> None:
    counts = [pair[0] for pair in framing.compress(b"x" * length).split(b"*")[1:]]
    assert not set(counts) & set(b"#$+-")


@given(st.binary(max_size=300), st.lists(st.integers(1, 20)))
def test_cutting_the_stream_changes_nothing(payload: bytes, cuts: list[int]) -> None:
    stream = b"+" + framing.frame(payload) + b"\x03" + framing.frame(b"g") + b"-"
    decoder = server_decoder()
    found: list[Unit] = []
    position = 0
    for cut in [*cuts, len(stream)]:
        found += units(decoder, stream[position : position + cut])
        position += cut
    assert found == [Ack(), Packet(payload), Interrupt(), Packet(b"g"), Nack()]


def test_an_interrupt_byte_within_a_packet_is_data() -> None:
    assert units(server_decoder(), framing.frame(b"X0,1:\x03")) == [Packet(b"X0,1:\x03")]


def test_a_wrong_checksum_is_reported_and_the_stream_goes_on() -> None:
    assert units(server_decoder(), b"$g#00$g#67") == [BadPacket(), Packet(b"g")]


def test_a_wrong_checksum_is_accepted_without_verification() -> None:
    decoder = server_decoder()
    decoder.verify = False
    assert units(decoder, b"$g#00$g#zz") == [Packet(b"g"), BadPacket()]


def test_a_notification_is_a_unit_for_clients_only() -> None:
    assert units(client_decoder(), b"%Stop:T05#aa") == [BadPacket()]
    assert units(client_decoder(), framing.frame(b"Stop:T05", start=b"%")) == [Notification(b"Stop:T05")]


def test_a_server_takes_a_star_in_a_request_literally() -> None:
    assert units(server_decoder(), b"$a*~#%02x" % (sum(b"a*~") % 256)) == [Packet(b"a*~")]


@pytest.mark.parametrize("probe", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"SSH-2.0", b"-", b"\n", b"%x#78"])
def test_other_protocols_are_refused_at_their_first_byte(probe: bytes) -> None:
    decoder = server_decoder()
    decoder.receive_data(probe)
    with pytest.raises(ProtocolError):
        decoder.next_unit()


def test_after_a_valid_packet_noise_is_skipped() -> None:
    assert units(server_decoder(), b"$?#3fhello$g#67") == [Packet(b"?"), Packet(b"g")]


@pytest.mark.parametrize("flood", [b"+" * 5000, b"\x03" * 5000, b"$" + b"a" * 5000, b"$g#00" * 1100])
def test_four_kilobytes_without_a_packet_end_the_stream(flood: bytes) -> None:
    decoder = server_decoder()
    with pytest.raises(ProtocolError):
        units(decoder, flood)


def test_noise_after_a_packet_is_bounded_too() -> None:
    decoder = server_decoder()
    with pytest.raises(ProtocolError):
        units(decoder, b"$?#3f" + b"z" * 5000)


def test_a_packet_longer_than_the_bound_ends_the_stream() -> None:
    decoder = Decoder(100, greeting=True)
    assert units(decoder, b"$?#3f") == [Packet(b"?")]
    with pytest.raises(ProtocolError):
        units(decoder, b"$" + b"a" * 102)


def test_a_packet_exactly_at_the_bound_is_taken() -> None:
    decoder = Decoder(100, greeting=True)
    assert units(decoder, framing.frame(b"a" * 100)) == [Packet(b"a" * 100)]


@pytest.mark.parametrize("raw", [b"}", b"ab}", b"}}}"])
def test_an_escape_that_is_cut_off_ends_the_stream(raw: bytes) -> None:
    decoder = server_decoder()
    with pytest.raises(ProtocolError):
        units(decoder, b"$%b#%02x" % (raw, sum(raw) % 256))


@pytest.mark.parametrize("raw", [b"*~", b"a*", b"a*\x1f", b"a*\x7f", b"0" + b"*~" * 2000])
def test_bad_or_exploding_run_lengths_end_the_stream(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        framing.expand(raw, LIMIT)


@given(st.binary(max_size=5000))
def test_random_bytes_give_units_or_a_protocol_error(data: bytes) -> None:
    for decoder in (server_decoder(), client_decoder()):
        try:
            units(decoder, data)
        except ProtocolError:
            continue
        assert decoder.buffered <= LIMIT + 4


@given(st.binary(max_size=60), st.booleans(), st.booleans())
def test_a_whole_packet_taken_at_once_is_the_same_as_its_units(
    data: bytes, framed: bool, verify: bool
) -> None:
    stream = framing.frame(data) if framed else data
    slow, fast = Decoder(1000), Decoder(1000)
    slow.verify = fast.verify = verify
    payload = fast.receive_packet(stream)
    assert fast.buffered == 0
    if payload is not None:
        assert [unit for unit in units(slow, stream) if unit != Ack()] == [Packet(payload)]


@pytest.mark.parametrize("data", [b"$g#67", b"+$g#67", b"$?#3f", b"+$vCont;c#a8"])
def test_a_common_packet_is_taken_at_once(data: bytes) -> None:
    assert Decoder(1000).receive_packet(data) == data.lstrip(b"+$")[:-3]


@pytest.mark.parametrize(
    "data", [b"$g#68", b"$g#6", b"-$g#67", b"$}\x03#a0", b"$g#67$g#67", b"++$g#67", b"", b"$" + b"g" * 999]
)
def test_anything_else_is_left_to_the_decoder(data: bytes) -> None:
    assert Decoder(500).receive_packet(data) is None

"""The server with a toy target over memory streams: packets in, packets out."""

import logging
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from gdbstub.client import Client
from gdbstub.errors import ConnectionLostError, RemoteError, TargetError
from gdbstub.framing import frame
from gdbstub.target import (
    Continue,
    Detach,
    ResumePlan,
    SectionOffsets,
    Stay,
    Step,
    StepPolicy,
    StepRange,
    ThreadAction,
)
from tests.helpers.rsp import answer, connected, served
from tests.helpers.toy_target import ToyTarget

LOOP = b"\xeb\xfe"
CODE = bytes.fromhex("90 ffc0 8807 90 8a07 ebf6")


def toy(code: bytes = CODE, second: bytes = LOOP) -> ToyTarget:
    target = ToyTarget()
    target.ram[0x1000 : 0x1000 + len(code)] = code
    target.ram[0x1100 : 0x1100 + len(second)] = second
    for registers in target.registers:
        registers["rdi"] = (0x2000).to_bytes(8, "little")
    return target


async def test_negotiation_announces_what_the_target_can_do() -> None:
    async with served(toy()) as stream:
        features = (await Client(stream).start(b"swbreak+")).split(b";")
    assert b"PacketSize=20000" in features
    assert {b"QStartNoAckMode+", b"vContSupported+", b"swbreak+", b"hwbreak+"} <= {*features}
    assert {b"binary-upload+", b"qXfer:features:read+", b"qXfer:threads:read+"} <= {*features}
    assert not any(feature.startswith((b"multiprocess", b"error-message")) for feature in features)


async def test_a_plain_target_is_offered_without_extras() -> None:
    class Plain:
        """A toy target with its required methods only."""

        def __init__(self, whole: ToyTarget) -> None:
            self.description = whole.description
            for name in ("attach", "detach", "threads", "read_registers", "write_registers"):
                setattr(self, name, getattr(whole, name))
            for name in ("read_memory", "write_memory", "resume", "wait_stop", "interrupt"):
                setattr(self, name, getattr(whole, name))

    async with served(Plain(toy())) as stream:  # type: ignore[arg-type]
        client = Client(stream)
        assert b"break" not in await client.start()
        assert await client.request(b"vCont?") == b"vCont;c;C;s;S"
        for request in (
            b"Z0,1000,1",
            b"Z2,1000,1",
            b"qRcmd,68",
            b"qOffsets",
            b"qqemu.sstepbits",
            b"qqemu.sstep",
        ):
            assert await client.request(request) == b""
        assert (await client.request(b"vCont;r1000,1001:1")).startswith(b"E")
        await client.send(b"k")
        with pytest.raises(ConnectionLostError):
            await client.receive()


async def test_looking_at_the_server_does_not_attach() -> None:
    target = toy()
    async with served(target) as stream:
        assert (await answer(stream, b"+$qSupported#37")).startswith(b"+$PacketSize=")
        assert await answer(stream, b"$QStartNoAckMode#b0+\x03") == b"+$OK#9a"
        assert not target.attached
        assert (await answer(stream, b"$qC#b4")) == b"$QC1#c5"
    assert target.detached == [Detach.LOST]


@pytest.mark.parametrize("request_", [b"?", b"vMustReplyEmpty", b"Hg0", b"mzz", b"nonsense"])
async def test_the_first_other_packet_attaches(request_: bytes) -> None:
    target = toy()
    async with connected(target) as client:
        await client.request(request_)
        assert target.attached


@pytest.mark.parametrize(
    "probe", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"+" * 4097, b"$qSupported"]
)
async def test_a_probe_changes_nothing(probe: bytes) -> None:
    target = toy()
    async with served(target) as stream:
        await stream.send_all(probe)
        await trio.testing.wait_all_tasks_blocked()
    assert not target.attached
    assert target.detached == []


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"+" * 4097, b"$" + b"q" * 4100])
async def test_noise_closes_the_connection(noise: bytes) -> None:
    async with served(toy()) as stream:
        await stream.send_all(noise)
        assert await stream.receive_some() == b""


async def test_a_second_client_is_told_who_is_there_and_closed() -> None:
    target = toy()
    async with connected(target) as first, connected(target) as second:
        await first.request(b"?")
        assert await second.request(b"vMustReplyEmpty") == b"E.the target is controlled by the first client"
        with pytest.raises(ConnectionLostError):
            await second.request(b"?")
        assert (await first.request(b"?")).startswith(b"T05")
    assert target.detached == [Detach.LOST]


@pytest.mark.parametrize(
    "request_", [b"vMustReplyEmpty", b"bs", b"bc", b"vFile:open:2f,0,0", b"!", b"R0", b"qTStatus"]
)
async def test_unknown_packets_get_the_empty_reply(request_: bytes) -> None:
    async with connected(toy()) as client:
        assert await client.request(request_) == b""


async def test_the_present_stop_is_told_with_expedited_registers() -> None:
    async with connected(toy()) as client:
        reply = await client.request(b"?")
    # rip is number 16, rsp 7, rbp 6, eflags 17
    assert reply == (
        b"T05thread:1;core:0;10:0010000000000000;7:0000000000000000;6:0000000000000000;11:00000000;"
    )


async def test_registers_are_read_and_written() -> None:
    async with connected(toy()) as client:
        general = await client.request(b"g")
        assert len(general) == 2 * 552
        assert general[2 * 128 : 2 * 136] == b"0010000000000000"
        assert await client.request(b"P0=efbeadde00000000") == b"OK"
        assert await client.request(b"p0") == b"efbeadde00000000"
        assert await client.request(b"G" + b"11" * 552) == b"OK"
        assert await client.request(b"p11") == b"11111111"
        assert (await client.request(b"G" + b"11" * 551)).startswith(b"E")
        assert (await client.request(b"P0=11")).startswith(b"E")
        assert (await client.request(b"pfff0")).startswith(b"E")


async def test_an_unavailable_register_is_x() -> None:
    target = toy()
    number = target.description.numbers["tsc_aux"]
    async with connected(target) as client:
        assert await client.request(b"p%x" % number) == b"x" * 16


async def test_a_register_that_cannot_be_written_says_so() -> None:
    target = toy()
    number = target.description.numbers["ldtr"]
    async with connected(target, b"error-message+") as client:
        assert await client.request(b"P%x=03000000" % number) == b"E.register ldtr: not in the toy"


async def test_a_read_only_register_takes_back_only_what_it_gave() -> None:
    target = toy()
    number = target.description.numbers["ticks"]
    async with connected(target, b"error-message+") as client:
        await client.request(b"P%x=%b" % (number, b"00" * 8))
        before = await client.request(b"p%x" % number)
        await client.resume(b"vCont;s:1")
        after = target.registers[0]["ticks"]
        assert await client.request(b"P%x=%b" % (number, before)) == b"OK"
        assert target.registers[0]["ticks"] == after
        refused = await client.request(b"P%x=%b" % (number, b"77" * 8))
        assert refused == b"E.register ticks: cannot be written"


async def test_memory_is_read_and_written_in_both_forms() -> None:
    async with connected(toy()) as client:
        assert await client.request(b"M3000,3:7d2324") == b"OK"
        assert await client.request(b"X3003,3:*\x00\xff") == b"OK"
        assert await client.request(b"m3000,6") == b"7d23242a00ff"
        assert await client.request(b"x3000,6") == b"b}#$*\x00\xff"
        assert await client.request(b"x3000,0") == b"b"
        assert await client.request(b"X3000,0:") == b"OK"


async def test_a_read_across_the_end_gives_the_readable_part() -> None:
    async with connected(toy(), b"error-message+") as client:
        assert len(await client.read_memory(0xFFF0, 0x100)) == 16
        assert await client.request(b"m10000,4") == b"E.memory at 0x10000: not mapped"
        assert await client.request(b"x10000,4") == b"E.memory at 0x10000: not mapped"


async def test_a_write_across_the_end_writes_nothing() -> None:
    target = toy()
    async with connected(target) as client:
        assert await client.request(b"Mfffe,4:01020304") == b"E0e"
    assert target.ram[0xFFFE:] == b"\0\0"


@pytest.mark.parametrize(
    "request_", [b"m0,ffffffffffffffff", b"x0,ffffffffffffffff", b"mffff,ffffffffffffffff"]
)
async def test_absurd_lengths_are_cut_to_what_fits(request_: bytes) -> None:
    target = toy()
    target.ram[:] = b"}" * len(target.ram)
    async with connected(target) as client:
        assert 2 <= len(await client.request(request_)) <= 0x20000


async def test_a_binary_read_of_bytes_that_need_escaping_fits_a_packet() -> None:
    target = toy()
    target.ram[:] = b"#" * len(target.ram)
    async with served(target) as stream:
        raw = await answer(stream, frame(b"?") + frame(b"x0,10000"))
        reply = raw[raw.rindex(b"$b") + 1 : raw.rindex(b"#")]
    assert 0x1FFF0 < len(reply) <= 0x20000


async def test_threads_are_listed_in_every_way() -> None:
    async with connected(toy()) as client:
        assert await client.request(b"qfThreadInfo") == b"m1,2"
        assert await client.request(b"qsThreadInfo") == b"l"
        assert bytes.fromhex((await client.request(b"qThreadExtraInfo,2")).decode()) == b"vCPU 1 [toy]"
        xml = await client.read_object(b"threads")
        assert b'<thread id="2" core="1" name="vCPU 1">toy</thread>' in xml
        assert await client.request(b"qC") == b"QC1"
        assert await client.request(b"T2") == b"OK"
        assert await client.request(b"T3") == b"E03"
        assert await client.request(b"Hg3") == b"E03"
        assert await client.request(b"Hg2") == b"OK"
        assert await client.request(b"p10") == b"0011000000000000"
        assert await client.request(b"qAttached") == b"1"


async def test_the_description_comes_in_chunks_of_one_document() -> None:
    target = toy()
    async with connected(target) as client:
        xml = await client.read_object(b"features", b"target.xml", chunk=100)
        assert xml == target.description.target_xml
        assert await client.request(b"qXfer:features:read:other.xml:0,100") == b"E00"
        assert (await client.request(b"qXfer:features:read:target.xml:fffff,100")).startswith(b"E")
        assert await client.request(b"qXfer:memory-map:read::0,100") == b""


async def test_a_step_ends_after_one_instruction() -> None:
    target = toy()
    async with connected(target) as client:
        stop = await client.resume(b"vCont;s:1;c")
        assert (stop.number, stop.thread, stop.registers[16]) == (5, 1, b"\x01\x10\0\0\0\0\0\0")
        assert await client.request(b"p10") == b"0110000000000000"
    assert target.plans == [ResumePlan((ThreadAction(Step(), 1), ThreadAction(Continue())))]


@pytest.mark.parametrize(
    ("requests", "actions"),
    [
        ([b"vCont;C0b:2;s:1"], (ThreadAction(Continue(11), 2), ThreadAction(Step(), 1))),
        ([b"vCont;S05:1;t"], (ThreadAction(Step(5), 1), ThreadAction(Stay()))),
        ([b"vCont;r1000,1003:1"], (ThreadAction(StepRange(0x1000, 0x1003), 1),)),
        ([b"vCont;s:0"], (ThreadAction(Step(), 1),)),
        ([b"s"], (ThreadAction(Step(), 1), ThreadAction(Continue()))),
        ([b"Hc2", b"s"], (ThreadAction(Step(), 2),)),
        ([b"Hc-1", b"S0b"], (ThreadAction(Step(11), 1), ThreadAction(Continue()))),
    ],
)
async def test_a_resume_becomes_this_plan(requests: list[bytes], actions: tuple[ThreadAction, ...]) -> None:
    target = toy()
    async with connected(target) as client:
        for request in [b"?", *requests[:-1]]:
            await client.require(request)
        await client.resume(requests[-1])
    assert target.plans == [ResumePlan(actions)]


@pytest.mark.parametrize("request_", [b"vCont;t", b"vCont;s:3", b"vCont", b"vCont;c:2:1", b"vCont;"])
async def test_a_plan_that_moves_nobody_or_names_no_thread_is_refused(request_: bytes) -> None:
    target = toy()
    async with connected(target) as client:
        assert not (await client.request(request_)).startswith(b"T")
    assert target.plans == []


async def test_a_range_step_runs_to_the_first_address_outside() -> None:
    async with connected(toy()) as client:
        stop = await client.resume(b"vCont;r1000,1005:1")
    assert stop.registers[16] == b"\x05\x10\0\0\0\0\0\0"


async def test_going_on_from_an_address_sets_the_program_counter() -> None:
    async with connected(toy()) as client:
        assert (await client.resume(b"s1005")).registers[16] == b"\x06\x10\0\0\0\0\0\0"


@pytest.mark.parametrize(("kind", "key"), [(0, "swbreak"), (1, "hwbreak")])
async def test_a_breakpoint_stops_at_its_address_and_names_its_kind(kind: int, key: str) -> None:
    async with connected(toy()) as client:
        assert await client.request(b"Z%d,1005,1" % kind) == b"OK"
        assert await client.request(b"Z%d,1005,1" % kind) == b"OK"
        stop = await client.resume(b"vCont;c")
        assert (stop.number, stop.registers[16], stop.keys[key]) == (5, b"\x05\x10\0\0\0\0\0\0", "")
        assert await client.request(b"m1005,1") == b"90"
        assert await client.request(b"z%d,1005,1" % kind) == b"OK"
        assert await client.request(b"z%d,1005,1" % kind) == b"OK"


@pytest.mark.parametrize(("kind", "key"), [(2, "watch"), (3, "rwatch"), (4, "awatch")])
async def test_a_watchpoint_names_the_address_touched(kind: int, key: str) -> None:
    async with connected(toy()) as client:
        assert await client.request(b"Z%d,1fff,100" % kind) == b"OK"
        stop = await client.resume(b"vCont;c")
        assert (stop.number, stop.keys[key]) == (5, "2000")
        assert await client.request(b"z%d,1fff,100" % kind) == b"OK"


async def test_points_that_do_not_exist_get_the_empty_reply() -> None:
    async with connected(toy()) as client:
        assert await client.request(b"Z5,1000,1") == b""
        assert await client.request(b"Z0,1000,1;X2,220a") == b""
        assert (await client.request(b"Z2,1000,0")).startswith(b"E")


async def test_an_interrupt_stops_a_busy_target_once() -> None:
    target = toy(LOOP)
    async with connected(target) as client:
        await client.request(b"?")
        await client.send(b"vCont;c")
        await client.interrupt()
        await client.interrupt()
        assert (await client.receive()).startswith(b"T02thread:")
        await client.interrupt()
        # Nothing is left over for the next plan, once the client has asked anything else.
        assert (await client.request(b"?")).startswith(b"T02")
        assert (await client.resume(b"vCont;s:1;c")).number == 5


async def test_packets_sent_while_the_target_runs_are_answered_after_its_stop() -> None:
    async with connected(toy(LOOP)) as client:
        await client.request(b"?")
        await client.send(b"vCont;c")
        await client.send(b"qC")
        await client.interrupt()
        assert (await client.receive()).startswith(b"T02")
        assert (await client.receive()).startswith(b"QC")


async def test_the_end_of_the_machine_is_a_stop_with_a_sentence_then_an_exit() -> None:
    target = toy(b"\xf4" + LOOP)
    async with connected(target) as client:
        stop = await client.resume(b"vCont;c")
        assert (stop.kind, stop.number) == ("T", 5)
        assert client.console == b"vCPU halted for ever\n"
        assert (await client.request(b"g"))[:2] == b"00"
        end = await client.resume(b"vCont;c")
        assert (end.kind, end.number) == ("W", 7)
        assert await client.request(b"?") == b"W07"
        for request in (b"g", b"m0,1", b"vCont;c", b"Hg1"):
            assert (await client.request(request)).startswith(b"E")
        assert await client.request(b"vMustReplyEmpty") == b""
        assert await client.request(b"D") == b"OK"
    assert target.detached == [Detach.RESUME]


async def test_a_target_that_cannot_resume_says_why_and_stays_stopped() -> None:
    class Stuck(ToyTarget):
        async def resume(self, plan: ResumePlan) -> None:
            raise TargetError("an instruction is half done")

    async with connected(Stuck(), b"error-message+") as client:
        assert await client.request(b"vCont;c") == b"E.an instruction is half done"
        assert (await client.request(b"?")).startswith(b"T05")


async def test_a_stop_is_told_even_when_its_registers_cannot_be_read() -> None:
    class Numb(ToyTarget):
        async def read_registers(self, thread: int, names: Sequence[str]) -> Sequence[bytes | None]:
            raise TargetError("not now")

    async with connected(Numb(), b"error-message+") as client:
        assert await client.request(b"?") == b"T05thread:1;"
        assert await client.request(b"g") == b"E.not now"


async def test_detaching_frees_the_target_before_it_is_answered() -> None:
    target = toy()
    async with connected(target) as client:
        await client.request(b"?")
        assert await client.request(b"D;1") == b"OK"
        assert not target.attached
        with pytest.raises(ConnectionLostError):
            await client.request(b"?")
    assert target.detached == [Detach.RESUME]


@pytest.mark.parametrize(("request_", "reply"), [(b"k", None), (b"vKill;1", b"OK")])
async def test_kill_ends_the_machine_and_the_connection(request_: bytes, reply: bytes | None) -> None:
    target = toy()
    async with connected(target) as client:
        await client.request(b"?")
        await client.send(request_)
        if reply is not None:
            assert await client.receive() == reply
        with pytest.raises(ConnectionLostError):
            await client.receive()
    assert target.killed


async def test_losing_the_client_while_running_detaches() -> None:
    target = toy(LOOP)
    async with connected(target) as client:
        await client.request(b"?")
        await client.send(b"vCont;c")
    assert target.detached == [Detach.LOST]


async def test_monitor_output_comes_as_console_text() -> None:
    async with connected(toy()) as client:
        await client.request(b"Hg2")
        assert await client.request(b"qRcmd," + b"hello".hex().encode()) == b"OK"
        assert client.console == b"hello from thread 2\n"


async def test_a_failing_monitor_command_shows_its_text_to_every_client() -> None:
    async with connected(toy()) as client:
        assert await client.request(b"qRcmd," + b"fail".hex().encode()) == b"E05"
        assert client.console == b"no such luck\n"
    async with connected(toy(), b"error-message+") as client:
        assert await client.request(b"qRcmd," + b"fail".hex().encode()) == b"E.no such luck"


async def test_an_interrupt_ends_a_long_command() -> None:
    async with connected(toy(), b"error-message+") as client:
        await client.request(b"?")
        await client.send(b"qRcmd," + b"forever".hex().encode())
        await client.interrupt()
        assert await client.receive() == b"E.interrupted"
        assert (await client.request(b"?")).startswith(b"T05")


async def test_endless_output_is_cut_off() -> None:
    async with connected(toy(), b"error-message+") as client:
        assert await client.request(b"qRcmd," + b"flood".hex().encode()) == b"E.too much output"
        assert len(client.console) < 1 << 23


async def test_a_bug_ends_its_session_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    target = toy()
    async with connected(target) as client:
        await client.request(b"?")
        with pytest.raises(ConnectionLostError):
            await client.request(b"qRcmd," + b"bug".hex().encode())
    assert target.detached == [Detach.LOST]
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
    async with connected(target) as client:
        assert (await client.request(b"?")).startswith(b"T05")


async def test_search_finds_matches_across_slices_and_skips_what_cannot_be_read() -> None:
    target = toy()
    target.ram[0x8FFE:0x9002] = b"ab#;"
    async with connected(target) as client:
        assert await client.request(b"qSearch:memory:0;10000;ab#;") == b"1,8ffe"
        assert await client.request(b"qSearch:memory:0;9001;ab#;") == b"0"
        assert await client.request(b"qSearch:memory:8fff;10000;ab#;") == b"0"
        assert await client.request(b"qSearch:memory:0;200000;zzz") == b"0"
        assert await client.request(b"qSearch:memory:fffffffffffff000;1000;zzz") == b"0"


async def test_a_search_of_everything_ends_when_interrupted() -> None:
    async with connected(toy(), b"error-message+") as client:
        await client.request(b"?")
        await client.send(b"qSearch:memory:0;ffffffffffffffff;zzz")
        await client.interrupt()
        assert await client.receive() == b"E.interrupted"


def crc_of_the_manual(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    return crc


async def test_crc_is_the_one_that_gdb_computes() -> None:
    target = toy()
    target.ram[0x3000:0x3009] = b"123456789"
    async with connected(target) as client:
        # 0376e6e7 is the catalogued check value of CRC-32/MPEG-2.
        assert await client.request(b"qCRC:3000,9") == b"C376e6e7"
        assert await client.request(b"qCRC:1000,0") == b"Cffffffff"
        assert await client.request(b"qCRC:0,10000") == b"C%x" % crc_of_the_manual(bytes(target.ram))
        assert (await client.request(b"qCRC:fff0,20")).startswith(b"E")


async def test_stepping_policies_in_qemus_words() -> None:
    target = toy()
    async with connected(target) as client:
        assert await client.request(b"Qqemu.sstepbits") == b"ENABLE=1,NOIRQ=2,NOTIMER=4"
        assert await client.request(b"qqemu.sstep") == b"0x7"
        assert await client.request(b"Qqemu.sstep=0x1") == b"OK"
        assert target.policy == StepPolicy.ENABLE
        assert (await client.request(b"Qqemu.sstep=0x8")).startswith(b"E")


async def test_offsets_are_given_as_segments_once_known() -> None:
    target = toy()
    async with connected(target) as client:
        assert await client.request(b"qOffsets") == b""
        target.offsets = SectionOffsets(0xFFFFFFFF9A000000)
        assert await client.request(b"qOffsets") == b"TextSeg=ffffffff9a000000"


async def test_lldb_is_given_the_slide_which_it_adds_to_every_address() -> None:
    target = toy()
    target.offsets = SectionOffsets(0xFFFFFFFF9A000000, slide=0x1900_0000)
    async with connected(target) as client:
        assert await client.request(b"qOffsets") == b"TextSeg=ffffffff9a000000"
        assert await client.request(b"QThreadSuffixSupported") == b"OK"
        assert await client.request(b"qOffsets") == b"TextSeg=19000000"


async def test_physical_memory_mode_is_refused_by_a_target_without_it() -> None:
    async with connected(toy()) as client:
        assert await client.request(b"qqemu.PhyMemMode") == b""
        assert await client.request(b"Qqemu.PhyMemMode:1") == b""


async def test_physical_memory_mode_redirects_memory_and_ends_with_the_connection() -> None:
    class Mapped(ToyTarget):
        async def read_physical(self, address: int, length: int) -> bytes:
            return b"P" * length

        async def write_physical(self, address: int, data: bytes) -> None:
            self.ram[0:4] = b"phys"

    target = Mapped()
    async with connected(target) as client:
        assert await client.request(b"Qqemu.PhyMemMode:1") == b"OK"
        assert await client.read_memory(0xFFFF0000, 2) == b"PP"
        await client.write_memory(0xFFFF0000, b"x")
        assert target.ram[0:4] == b"phys"
    async with connected(target) as client:
        assert await client.request(b"qqemu.PhyMemMode") == b"0"
        with pytest.raises(RemoteError):
            await client.read_memory(0xFFFF0000, 2)


async def test_a_client_that_reads_nothing_holds_up_nobody() -> None:
    target = toy()
    async with served(target) as slow:
        await slow.send_all(frame(b"?") + frame(b"m0,8000") * 200)
        await trio.testing.wait_all_tasks_blocked()
        async with connected(ToyTarget()) as client:
            assert (await client.request(b"?")).startswith(b"T05")


async def test_acknowledgements_are_sent_until_they_are_turned_off() -> None:
    async with served(toy()) as stream:
        assert await answer(stream, b"$qC#b4") == b"+$QC1#c5"
        assert await answer(stream, b"-") == b"$QC1#c5"
        assert await answer(stream, b"$qC#00") == b"-"
        assert await answer(stream, b"+$QStartNoAckMode#b0") == b"+$OK#9a"
        assert await answer(stream, b"+$qC#b4") == b"$QC1#c5"

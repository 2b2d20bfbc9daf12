"""Requests: each packet as the manual writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub import packets
from gdbstub import requests as rq
from gdbstub import requests_control as rc
from gdbstub import requests_lldb as rl
from gdbstub.errors import RequestError

WELL_FORMED = [
    (b"qSupported:swbreak+;xmlRegisters=i386", rq.Supported(frozenset({b"swbreak+", b"xmlRegisters=i386"}))),
    (b"qSupported", rq.Supported(frozenset())),
    (b"qSupportedswbreak+", rq.Unknown()),
    (b"QStartNoAckMode", rq.StartNoAckMode()),
    (b"?", rq.StopQuery()),
    (b"!", rc.ExtendedMode()),
    (b"g", rq.ReadGeneral()),
    (b"G00ff", rq.WriteGeneral(b"\x00\xff")),
    (b"p1a", rq.ReadRegister(26)),
    (b"P10=78563412", rq.WriteRegister(16, b"\x78\x56\x34\x12")),
    (b"mffffffff81000000,40", rq.ReadMemory(0xFFFFFFFF81000000, 64)),
    (b"x1000,10", rq.ReadMemory(0x1000, 16, binary=True)),
    (b"M10,2:0aFF", rq.WriteMemory(16, b"\x0a\xff")),
    (b"X10,3:a:#", rq.WriteMemory(16, b"a:#")),
    (b"X0,0:", rq.WriteMemory(0, b"")),
    (b"Hg0", rq.SelectThread("g", 0)),
    (b"Hc-1", rq.SelectThread("c", -1)),
    (b"Hgp1.2", rq.SelectThread("g", 2)),
    (b"Hgp-1.-1", rq.SelectThread("g", -1)),
    (b"T10", rq.ThreadAlive(16)),
    (b"qC", rq.CurrentThread()),
    (b"qCRC:1000,20", rq.MemoryCrc(0x1000, 32)),
    (b"qfThreadInfo", rq.FirstThreads()),
    (b"qsThreadInfo", rq.NextThreads()),
    (b"qThreadExtraInfo,2", rq.ThreadExtra(2)),
    (b"qAttached", rq.AttachedQuery()),
    (b"qAttached:1", rq.AttachedQuery()),
    (b"qXfer:features:read:target.xml:0,ffb", rq.Transfer("features", "target.xml", 0, 0xFFB)),
    (b"qXfer:threads:read::10,20", rq.Transfer("threads", "", 16, 32)),
    (b"qXfer:features:write:target.xml:0:aa", rq.Unknown()),
    (b"c", rq.LegacyResume(False, 0, None)),
    (b"s1000", rq.LegacyResume(True, 0, 0x1000)),
    (b"C05", rq.LegacyResume(False, 5, None)),
    (b"S0b;ff", rq.LegacyResume(True, 11, 0xFF)),
    (b"vCont?", rq.ContQuery()),
    (b"vCont;s:1;c", rq.Cont((rq.ContAction("s", 1), rq.ContAction("c")))),
    (b"vCont;S05:2", rq.Cont((rq.ContAction("S", 2, signal=5),))),
    (b"vCont;r10,20:1;t", rq.Cont((rq.ContAction("r", 1, start=16, end=32), rq.ContAction("t")))),
    (b"vCont;c:-1", rq.Cont((rq.ContAction("c", -1),))),
    (b"vContX", rq.Unknown()),
    (b"Z0,401000,1", rq.Point(True, 0, 0x401000, 1)),
    (b"z4,2001,100", rq.Point(False, 4, 0x2001, 0x100)),
    (b"Z0,10,1;X2,220a", rq.Point(True, 0, 16, 1, b"X2,220a")),
    (b"Z5,10,1", rq.Unknown()),
    (b"D", rq.DetachRequest()),
    (b"D;1", rq.DetachRequest()),
    (b"k", rq.Kill(answered=False)),
    (b"vKill;1", rq.Kill(answered=True)),
    (b"qRcmd,68656c70", rq.MonitorCommand("help")),
    (b"qRcmd,ff", rq.MonitorCommand("\ufffd")),
    (b"qOffsets", rq.OffsetsQuery()),
    (b"qSearch:memory:1000;20;a;b", rq.SearchMemory(0x1000, 32, b"a;b")),
    (b"qqemu.sstepbits", rq.StepBitsQuery()),
    (b"Qqemu.sstepbits", rq.StepBitsQuery()),
    (b"qqemu.sstep", rq.StepPolicyQuery()),
    (b"Qqemu.sstep", rq.StepPolicyQuery()),
    (b"Qqemu.sstep=0x7", rq.SetStepPolicy(7)),
    (b"qqemu.sstep=5", rq.SetStepPolicy(5)),
    (b"Qqemu.PhyMemMode:1", rq.SetPhysical(True)),
    (b"qqemu.PhyMemMode", rq.PhysicalQuery()),
    (b"vMustReplyEmpty", rq.Unknown()),
    (b"qTStatus", rq.Unknown()),
    (b"bs", rq.Unknown()),
    (b"vFile:open:2f61,0,1b6", rc.FileOpen("/a", 0)),
    (b"vFile:pread:3,100,20", rc.FileRead(3, 256, 32)),
    (b"vFile:close:3", rc.FileClose(3)),
    (b"vFile:fstat:3", rc.FileStat(3)),
    (b"vFile:stat:2f61", rc.FileStat(path="/a")),
    (b"vFile:setfs:0", rc.FileSystem()),
    (b"vFile:size:2f61", rc.FileSize("/a")),
    (b"vFile:exists:2f61", rc.FileSize("/a", exists=True)),
    (b"vFile:unlink:2f61", rc.FileChange()),
    (b"vFile:chmod:2f61", rq.Unknown()),
    (b"vRun;;2d78", rc.RunProgram("", ("-x",))),
    (b"vAttach;1", rc.AttachTo(1)),
    (b"QNonStop:1", rc.SetNonStop(True)),
    (b"QNonStop:2", rq.Unknown()),
    (b"vStopped", rc.NextStop()),
    (b"vCtrlC", rc.CtrlC()),
    (b"Qbtrace:bts", rc.BranchTraceRequest(True)),
    (b"Qbtrace:off", rc.BranchTraceRequest(False)),
    (b"Qbtrace:pt", rq.Unknown()),
    (b"Qbtrace-conf:bts:size=10000", rc.BranchTraceSize(0x10000)),
    (b"Qbtrace-conf:bts:size=0x10000", rc.BranchTraceSize(0x10000)),
    (b"g;thread:2;", rq.ReadGeneral(2)),
    (b"p10;thread:p1.2;", rq.ReadRegister(16, 2)),
    (b"P10=0a0b;thread:1;", rq.WriteRegister(16, b"\x0a\x0b", 1)),
    (b"G0a;thread:1;", rq.WriteGeneral(b"\x0a", 1)),
    (b"D1", rq.DetachRequest(stay=True)),
    (b"D2", rq.Unknown()),
    (b"QThreadSuffixSupported", rl.EnableOption(b"QThreadSuffixSupported")),
    (b"qHostInfo", rl.HostInfo()),
    (b"qThreadStopInfoa", rl.ThreadStop(10)),
    (b"qMemoryRegionInfo:1000", rl.RegionQuery(0x1000)),
    (b"qMemoryRegionInfo", rl.RegionQuery(None)),
    (b"MultiMemRead:ranges:10,2,20,0;", rl.ReadMany(((0x10, 2), (0x20, 0)))),
    (b"MultiMemRead:ranges:10,2;options:;", rl.ReadMany(((0x10, 2),))),
    (
        b'jMultiBreakpoint:{"breakpoint_requests":["Z0,10,1","z1,20,1"]}',
        rl.PointMany((b"Z0,10,1", b"z1,20,1")),
    ),
    (b"QSaveRegisterState;thread:1;", rl.SaveRegisters(1)),
    (b"QRestoreRegisterState:12;thread:1;", rl.RestoreRegisters(12, 1)),
    (b"qEcho:abc", rl.Echo(b"qEcho:abc")),
    (b"qSupportsDetachAndStayStopped:", rl.DetachStopped()),
    (b"jThreadExtendedInfo:", rq.Unknown()),
    (b"R00", rc.RestartRequest()),
    (b"", rq.Unknown()),
    (b"\xff\x00", rq.Unknown()),
]

MALFORMED = [
    b"m1000",
    b"m,1",
    b"mxyz,1",
    b"m-1,1",
    b"m 1,1",
    b"m10000000000000000,1",
    b"m" + b"1" * 100_000 + b",1",
    b"x1000,",
    b"M10,2:0a",
    b"M10,1:0g",
    b"M10,1: 0a",
    b"M10,2:0a0b0",
    b"X10,2:a",
    b"X10,ffffffffffffffff:a",
    b"Xffffffffffffffff,2:ab",
    b"p",
    b"p10000",
    b"P10",
    b"P10=0",
    b"G0",
    b"Hgzz",
    b"Hgp2.1",
    b"T",
    b"C",
    b"C100",
    b"cxx",
    b"vCont;",
    b"vCont;q:1",
    b"vCont;r10:1",
    b"vCont;c:",
    b"vCont" + b";c" * 300,
    b"Z0,10",
    b"Z0,10,1,1",
    b"Z2,ffffffffffffffff,2",
    b"qRcmd,6",
    b"MultiMemRead:",
    b"MultiMemRead:ranges:10;",
    b"MultiMemRead:ranges:10,2",
    b"MultiMemRead:ranges:10,2;blah:;",
    b"MultiMemRead:ranges:" + b"0,0," * 2000 + b";",
    b"jMultiBreakpoint:{",
    b"jMultiBreakpoint:[1]",
    b'jMultiBreakpoint:{"breakpoint_requests":[1]}',
    b"jMultiBreakpoint:" + b"[" * 100_000,
    b"qThreadStopInfo",
    b"QRestoreRegisterState:x",
    b"vFile:open:2f",
    b"vFile:open:" + b"2f" * 5000 + b",0,0",
    b"vFile:pread:3",
    b"vAttach;zz",
    b"Qbtrace-conf:bts:size=",
    b"g;thread:zz;",
    b"qSearch:memory:0;10;",
    b"qSearch:memory:0;10",
    b"qThreadExtraInfo,",
    b"qXfer:features:read:target.xml:0",
]


@pytest.mark.parametrize(("payload", "request_"), WELL_FORMED)
def test_a_packet_is_read_as_the_manual_says(payload: bytes, request_: rq.Request) -> None:
    assert packets.parse(payload) == request_


@pytest.mark.parametrize("payload", MALFORMED, ids=lambda payload: ascii(payload[:30].decode("latin-1")))
def test_a_malformed_packet_is_a_request_error(payload: bytes) -> None:
    with pytest.raises(RequestError):
        packets.parse(payload)


names = st.sampled_from(sorted(packets.PACKET_NAMES))


@given(st.one_of(st.binary(max_size=200), st.builds(bytes.__add__, names, st.binary(max_size=60))))
def test_any_payload_is_a_request_or_a_request_error(payload: bytes) -> None:
    text = ""
    try:
        packets.parse(payload)
    except RequestError as error:
        text = str(error)
    assert text.isprintable()


@given(names, st.text("0123456789abcdef,;:=-p.", max_size=40))
def test_any_arguments_are_a_request_or_a_request_error(name: bytes, arguments: str) -> None:
    try:
        request = packets.parse(name + arguments.encode())
    except RequestError:
        return
    if isinstance(request, rq.ReadMemory):
        assert 0 <= request.address < 1 << 64
        assert 0 <= request.length < 1 << 64
    if isinstance(request, rq.WriteMemory | rq.Point):
        assert request.address < 1 << 64

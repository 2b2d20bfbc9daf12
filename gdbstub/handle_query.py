"""Handlers for negotiation, threads, transfers, the monitor and QEMU's packets."""

from __future__ import annotations

import functools
from xml.sax.saxutils import escape as escape_xml
from xml.sax.saxutils import quoteattr

from gdbstub.context import Capabilities, Context, Job, Outcome
from gdbstub.errors import RequestError, TargetError
from gdbstub.handle_state import fit
from gdbstub.replies import Console, Empty, EndReply, Error, Hex, Ok, Raw, Reply, StopReply
from gdbstub.requests import (
    ALL_THREADS,
    ANY_THREAD,
    AttachedQuery,
    CurrentThread,
    ExtendedMode,
    FirstThreads,
    MonitorCommand,
    NextThreads,
    OffsetsQuery,
    PhysicalQuery,
    SelectThread,
    SetPhysical,
    SetStepPolicy,
    StartNoAckMode,
    StepBitsQuery,
    StepPolicyQuery,
    StopQuery,
    Supported,
    ThreadAlive,
    ThreadExtra,
    Transfer,
    Unknown,
)
from gdbstub.session import MAX_CONSOLE
from gdbstub.target import StepPolicy, Stop, ThreadInfo

_ALL_POLICIES = StepPolicy.ENABLE | StepPolicy.NOIRQ | StepPolicy.NOTIMER


async def unknown(context: Context, request: Unknown) -> Outcome:
    """Any packet without a row."""
    return Empty()


def stub_features(packet_size: int, capabilities: Capabilities) -> list[str]:
    """The tokens of our half of `qSupported`."""
    features = [
        f"PacketSize={packet_size:x}",
        "QStartNoAckMode+",
        "vContSupported+",
        "qXfer:features:read+",
        "qXfer:threads:read+",
        "binary-upload+",
    ]
    if capabilities.breakpoints is not None:
        features += ["swbreak+", "hwbreak+"]
    if capabilities.conditions is not None:
        features += ["ConditionalBreakpoints+", "BreakpointCommands+"]
    return features


async def supported(context: Context, request: Supported) -> Outcome:
    """`qSupported`. A second one replaces what the first negotiated."""
    session = context.session
    session.negotiate(request.features)
    features = stub_features(session.packet_size, context.capabilities)
    if b"error-message+" in session.features:
        features.append("error-message+")
    return Raw(";".join(features).encode())


async def start_no_ack_mode(context: Context, request: StartNoAckMode) -> Outcome:
    """`QStartNoAckMode`."""
    context.session.stop_acknowledging()
    return Ok()


async def extended_mode(context: Context, request: ExtendedMode) -> Outcome:
    """`!`: not offered, since nothing can be started again over this connection."""
    return Empty()


async def stop_query(context: Context, request: StopQuery) -> Outcome:
    """`?`: the present stop once more."""
    event = context.session.last_event
    if event is None:
        raise RequestError("not attached")
    return await stop_reply(context, event) if isinstance(event, Stop) else EndReply(event)


async def stop_reply(context: Context, stop: Stop) -> Reply:
    """The reply for a stop, with the registers that clients ask for first."""
    description = context.target.description
    try:
        values = await context.target.read_registers(stop.thread, description.expedited)
        core = await context.core_of(stop.thread)
    except TargetError:
        # The stop itself is worth more than what goes along with it.
        return StopReply(stop)
    numbered = zip(description.expedited_numbers, values, strict=True)
    return StopReply(stop, core, tuple([(n, value) for n, value in numbered if value is not None]))


async def attached_query(context: Context, request: AttachedQuery) -> Outcome:
    """`qAttached`: 1, so that a debugger which quits detaches instead of killing."""
    return Raw(b"1")


async def select_thread(context: Context, request: SelectThread) -> Outcome:
    """`Hg` and `Hc`."""
    if request.thread not in (ANY_THREAD, ALL_THREADS):
        await context.thread_info(request.thread)
    if request.operation == "g":
        context.session.selected_general = request.thread
    else:
        context.session.selected_continue = request.thread
    return Ok()


async def thread_alive(context: Context, request: ThreadAlive) -> Outcome:
    """`T`."""
    await context.thread_info(request.thread)
    return Ok()


async def current_thread(context: Context, request: CurrentThread) -> Outcome:
    """`qC`."""
    return Raw(b"QC%x" % context.general_thread())


async def first_threads(context: Context, request: FirstThreads) -> Outcome:
    """`qfThreadInfo`."""
    context.session.threads_left = [info.id for info in await context.target.threads()]
    return _thread_list(context)


async def next_threads(context: Context, request: NextThreads) -> Outcome:
    """`qsThreadInfo`."""
    return _thread_list(context)


def _thread_list(context: Context) -> Reply:
    fitting = context.session.packet_size // 20
    ids = context.session.threads_left[:fitting]
    del context.session.threads_left[:fitting]
    return Raw(b"m" + ",".join(f"{thread:x}" for thread in ids).encode()) if ids else Raw(b"l")


def _thread_text(info: ThreadInfo) -> str:
    return f"{info.name} [{info.detail}]" if info.detail else info.name


async def thread_extra(context: Context, request: ThreadExtra) -> Outcome:
    """`qThreadExtraInfo`."""
    return Hex(_thread_text(await context.thread_info(request.thread)).encode())


async def _threads_xml(context: Context) -> bytes:
    lines = ['<?xml version="1.0"?>', "<threads>"]
    for info in await context.target.threads():
        core = "" if info.core is None else f' core="{info.core}"'
        lines.append(
            f'<thread id="{info.id:x}"{core} name={quoteattr(info.name)}>{escape_xml(info.detail)}</thread>'
        )
    return "\n".join([*lines, "</threads>", ""]).encode()


async def _features_xml(context: Context) -> bytes:
    return context.target.description.target_xml


TRANSFERS = {("features", "target.xml"): _features_xml, ("threads", ""): _threads_xml}
"""(object, annex) to what makes the document."""


async def transfer(context: Context, request: Transfer) -> Outcome:
    """`qXfer`: all chunks of one reading come from the document as it was at offset 0."""
    key = (request.object, request.annex)
    if request.object not in {name for name, _ in TRANSFERS}:
        return Empty()
    if key not in TRANSFERS:
        return Error(0, f"{request.object} has no {request.annex[:100]!a}")
    documents = context.session.transfers
    if request.offset == 0 or key not in documents:
        documents[key] = await TRANSFERS[key](context)
    document = documents[key]
    if request.offset > len(document):
        raise RequestError(f"offset {request.offset:#x} is beyond the document")
    chunk = document[request.offset : request.offset + min(request.length, context.session.packet_size)]
    payload = fit(b"m", chunk, context.session.packet_size)
    last = request.offset + len(payload) - 1 >= len(document)
    return Raw(b"l" + payload[1:] if last else payload)


async def monitor(context: Context, request: MonitorCommand) -> Outcome:
    """`qRcmd`, as a job: output goes out as console packets, then `OK`."""
    capability = context.capabilities.monitor
    if capability is None:
        return Empty()

    async def run() -> Reply:
        try:
            await capability.monitor(
                context.general_thread(), request.command, functools.partial(send_console, context)
            )
        except TargetError as error:
            # An old gdb shows no text of an error here, but it shows console text.
            if b"error-message+" not in context.session.features:
                send_console(context, f"{error}\n")
            return Error(error.number, str(error))
        return Ok()

    return Job(run)


def send_console(context: Context, text: str) -> None:
    """Queue `text` as console packets, each small enough.

    Raises TargetError when more than `session.MAX_CONSOLE` bytes wait to be sent.
    """
    if context.session.output_size > MAX_CONSOLE:
        raise TargetError("too much output")
    data = text.encode("utf-8", "replace")
    size = context.session.packet_size // 2 - 1
    for start in range(0, len(data), size):
        context.session.send(Console(data[start : start + size]))


async def offsets_query(context: Context, request: OffsetsQuery) -> Outcome:
    """`qOffsets`, in the segment form: pwndbg misreads the other one."""
    capability = context.capabilities.offsets
    found = None if capability is None else await capability.section_offsets()
    if found is None:
        return Empty()
    data = "" if found.data_segment is None else f";DataSeg={found.data_segment:x}"
    return Raw(f"TextSeg={found.text_segment:x}{data}".encode())


async def step_bits_query(context: Context, request: StepBitsQuery) -> Outcome:
    """`qqemu.sstepbits`."""
    if context.capabilities.stepping_policy is None:
        return Empty()
    return Raw(b"ENABLE=1,NOIRQ=2,NOTIMER=4")


async def step_policy_query(context: Context, request: StepPolicyQuery) -> Outcome:
    """`qqemu.sstep`."""
    capability = context.capabilities.stepping_policy
    return Empty() if capability is None else Raw(b"0x%x" % await capability.step_policy())


async def set_step_policy(context: Context, request: SetStepPolicy) -> Outcome:
    """`Qqemu.sstep=`."""
    capability = context.capabilities.stepping_policy
    if capability is None:
        return Empty()
    if request.mask & ~int(_ALL_POLICIES):
        raise RequestError(f"the bits of a step policy are {int(_ALL_POLICIES):#x}")
    await capability.set_step_policy(StepPolicy(request.mask))
    return Ok()


async def physical_query(context: Context, request: PhysicalQuery) -> Outcome:
    """`qqemu.PhyMemMode`."""
    if context.capabilities.physical_memory is None:
        return Empty()
    return Raw(b"1" if context.session.physical else b"0")


async def set_physical(context: Context, request: SetPhysical) -> Outcome:
    """`Qqemu.PhyMemMode:`."""
    if context.capabilities.physical_memory is None:
        return Empty()
    context.session.physical = request.on
    return Ok()

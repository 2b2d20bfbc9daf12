"""Handlers for negotiation, threads, transfers, the monitor and QEMU's packets."""

from __future__ import annotations

import functools

from gdbstub.capabilities import Capabilities
from gdbstub.context import Context, Job, Outcome
from gdbstub.errors import RequestError, TargetError
from gdbstub.fields import ALL_THREADS, ANY_THREAD
from gdbstub.handle_share import control, is_control
from gdbstub.replies import (
    Console,
    Empty,
    EndReply,
    Error,
    Features,
    Hex,
    Ok,
    Raw,
    Reply,
    StopReply,
    ThreadIds,
)
from gdbstub.requests import (
    AttachedQuery,
    CurrentThread,
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
    Unknown,
)
from gdbstub.session import MAX_CONSOLE, NonStopState, State
from gdbstub.target import Event, Exited, StepPolicy, Stop, ThreadInfo

_ALL_POLICIES = StepPolicy.ENABLE | StepPolicy.NOIRQ | StepPolicy.NOTIMER


async def unknown(context: Context, request: Unknown) -> Outcome:
    """Any packet without a row."""
    return Empty()


ALWAYS_OFFERED = (
    "QStartNoAckMode+",
    "vContSupported+",
    "qXfer:features:read+",
    "qXfer:threads:read+",
    "binary-upload+",
    "QThreadSuffixSupported+",
    "QListThreadsInStopReply+",
    "qEcho+",
    "MultiMemRead+",
)
"""Tokens of our half of `qSupported` that depend on nothing."""
OFFERED_WITH: dict[str, tuple[str, ...]] = {
    "breakpoints": ("swbreak+", "hwbreak+", "jMultiBreakpoint+"),
    "conditions": ("ConditionalBreakpoints+", "BreakpointCommands+"),
    "non_stop": ("QNonStop+",),
    "virtual_files": ("qXfer:exec-file:read+",),
    "libraries": ("qXfer:libraries:read+",),
    "system_tables": ("qXfer:osdata:read+",),
    "branch_trace": (
        *("Qbtrace:bts+", "Qbtrace:off+", "Qbtrace-conf:bts:size+"),
        *("qXfer:btrace:read+", "qXfer:btrace-conf:read+"),
    ),
}
"""Capability to the tokens that it adds."""
ANSWERED = ("error-message+", "multiprocess+")
"""Tokens that are offered to clients that offer them."""


def stub_features(packet_size: int, capabilities: Capabilities, features: Features) -> list[str]:
    """The tokens of our half of `qSupported`, for a client with `features`."""
    offered = [f"PacketSize={packet_size:x}", *ALWAYS_OFFERED]
    for capability, tokens in OFFERED_WITH.items():
        if getattr(capabilities, capability) is not None:
            offered += tokens
    return offered + [token for token in ANSWERED if token.encode() in features]


async def supported(context: Context, request: Supported) -> Outcome:
    """`qSupported`. A second one replaces what the first negotiated."""
    session = context.session
    known = request.features
    if not context.capabilities.processes:
        known -= {b"multiprocess+"}
    session.negotiate(known)
    return Raw(";".join(stub_features(session.packet_size, context.capabilities, session.features)).encode())


async def start_no_ack_mode(context: Context, request: StartNoAckMode) -> Outcome:
    """`QStartNoAckMode`."""
    context.session.stop_acknowledging()
    return Ok()


async def stop_query(context: Context, request: StopQuery) -> Outcome:
    """`?`: the present stop once more; in non-stop mode the first of all that stand."""
    session = context.session
    if session.state is State.DETACHED:
        return EndReply(Exited(0))
    if session.non_stop is not None:
        return await first_stop(context, session.non_stop)
    event = session.last_event
    if event is None:
        raise RequestError("not attached")
    return await stop_reply(context, event) if isinstance(event, Stop) else EndReply(event)


async def first_stop(context: Context, state: NonStopState) -> Reply:
    """Begin to tell all stops that there are.

    The others follow as notifications when the client has asked whether there are more: gdb 13 fails with
    an internal error when it gets two in its first list.
    """
    standing = list(state.stops.values())
    state.queue.clear()
    state.queue.extend(standing[:1])
    state.later = standing[1:]
    state.told = bool(state.queue)
    return await event_reply(context, state.queue[0]) if state.queue else Ok()


async def event_reply(context: Context, event: Event) -> Reply:
    """The reply that tells `event`."""
    return await stop_reply(context, event) if isinstance(event, Stop) else EndReply(event)


async def stop_reply(context: Context, stop: Stop) -> Reply:
    """The reply for a stop, with the registers that clients ask for first."""
    description = context.target.description
    try:
        values = await context.target.read_registers(stop.thread, description.expedited)
        core = await context.core_of(stop.thread)
        counters: tuple[tuple[int, int], ...] = ()
        if b"QListThreadsInStopReply" in context.session.options:
            counters = await _program_counters(context)
    except TargetError:
        # The stop itself is worth more than what goes along with it.
        return StopReply(stop)
    numbered = zip(description.expedited_numbers, values, strict=True)
    registers = tuple([(number, value) for number, value in numbered if value is not None])
    return StopReply(stop, core, registers, counters)


async def _program_counters(context: Context) -> tuple[tuple[int, int], ...]:
    description = context.target.description
    found = []
    for info in await context.target.threads():
        [value] = await context.target.read_registers(info.id, (description.program_counter,))
        found.append((info.id, int.from_bytes(value or b"", description.byte_order)))
    return tuple(found)


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
    return ThreadIds("QC", (context.general_thread(),))


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
    return ThreadIds("m", tuple(ids)) if ids else Raw(b"l")


def thread_description(info: ThreadInfo) -> str:
    """What `info threads` shows."""
    return f"{info.name} [{info.detail}]" if info.detail else info.name


async def thread_extra(context: Context, request: ThreadExtra) -> Outcome:
    """`qThreadExtraInfo`."""
    return Hex(thread_description(await context.thread_info(request.thread)).encode())


async def monitor(context: Context, request: MonitorCommand) -> Outcome:
    """`qRcmd`, as a job: output goes out as console packets, then `OK`."""
    capability = context.capabilities.monitor
    if is_control(request) and context.capabilities.shared is not None:
        return Job(functools.partial(_control, context, request.command))
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


async def _control(context: Context, command: str) -> Reply:
    send_console(context, await control(context, command))
    return Ok()


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
    """`qOffsets`, in the segment form: pwndbg misreads the other one.

    For gdb `TextSeg` is the first segment's address, as its manual says; LLDB adds it to every address.
    """
    capability = context.capabilities.offsets
    found = None if capability is None else await capability.section_offsets()
    if found is None:
        return Empty()
    if found.slide is not None and b"QThreadSuffixSupported" in context.session.options:
        return Raw(b"TextSeg=%x" % found.slide)
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

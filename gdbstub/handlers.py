"""The table from request to handler, and the one way to call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gdbstub import handle_query, handle_run, handle_state, requests
from gdbstub.context import Close, Context, Outcome
from gdbstub.errors import RequestError, TargetBusyError, TargetError, TargetGoneError
from gdbstub.replies import Error, Ok
from gdbstub.session import Malformed, State
from gdbstub.target import Detach

Handler = Callable[[Context, Any], Awaitable[Outcome]]

HANDLERS: dict[type[Any], Handler] = {
    requests.Unknown: handle_query.unknown,
    requests.Supported: handle_query.supported,
    requests.StartNoAckMode: handle_query.start_no_ack_mode,
    requests.ExtendedMode: handle_query.extended_mode,
    requests.StopQuery: handle_query.stop_query,
    requests.AttachedQuery: handle_query.attached_query,
    requests.SelectThread: handle_query.select_thread,
    requests.ThreadAlive: handle_query.thread_alive,
    requests.CurrentThread: handle_query.current_thread,
    requests.FirstThreads: handle_query.first_threads,
    requests.NextThreads: handle_query.next_threads,
    requests.ThreadExtra: handle_query.thread_extra,
    requests.Transfer: handle_query.transfer,
    requests.MonitorCommand: handle_query.monitor,
    requests.OffsetsQuery: handle_query.offsets_query,
    requests.StepBitsQuery: handle_query.step_bits_query,
    requests.StepPolicyQuery: handle_query.step_policy_query,
    requests.SetStepPolicy: handle_query.set_step_policy,
    requests.PhysicalQuery: handle_query.physical_query,
    requests.SetPhysical: handle_query.set_physical,
    requests.ReadGeneral: handle_state.read_general,
    requests.WriteGeneral: handle_state.write_general,
    requests.ReadRegister: handle_state.read_register,
    requests.WriteRegister: handle_state.write_register,
    requests.ReadMemory: handle_state.read_memory_packet,
    requests.WriteMemory: handle_state.write_memory,
    requests.SearchMemory: handle_state.search_memory,
    requests.MemoryCrc: handle_state.memory_crc,
    requests.ContQuery: handle_run.cont_query,
    requests.Cont: handle_run.cont,
    requests.LegacyResume: handle_run.legacy_resume,
    requests.Point: handle_run.point,
    requests.DetachRequest: handle_run.detach,
    requests.Kill: handle_run.kill,
}

WITHOUT_ATTACHING = frozenset({requests.Supported, requests.StartNoAckMode})
"""A client may send these and leave again; the target does not notice."""
AFTER_THE_END = WITHOUT_ATTACHING | {requests.StopQuery, requests.AttachedQuery, requests.Unknown}
"""What a target that has ended still answers; `D` and `k` close."""

SHOWN_BY_GDB = frozenset(
    {requests.WriteRegister, requests.WriteGeneral, requests.Cont, requests.LegacyResume}
)
"""Requests whose ``E.text`` gdb shows also in versions that do not offer ``error-message+``."""


async def dispatch(context: Context, request: requests.Request | Malformed) -> Outcome:
    """Answer one request. The first that needs the target attaches it."""
    try:
        if context.session.state is State.UNATTACHED and type(request) not in WITHOUT_ATTACHING:
            await _attach(context)
        if isinstance(request, Malformed):
            raise RequestError(request.text)
        if context.session.state is State.ENDED and type(request) not in AFTER_THE_END:
            return _after_the_end(request)
        return await HANDLERS[type(request)](context, request)
    except TargetBusyError as error:
        return Close(Error(error.number, str(error), always_text=True), Detach.LOST)
    except (RequestError, TargetError) as error:
        # Of all clients only gdb offers this feature, and its versions since then take text here.
        text = type(request) in SHOWN_BY_GDB and b"no-resumed+" in context.session.features
        return Error(error.number, str(error), always_text=text)


async def _attach(context: Context) -> None:
    context.session.attached(await context.target.attach())
    if context.capabilities.text_output is not None:
        context.capabilities.text_output.set_console(context.console)


def _after_the_end(request: requests.Request) -> Outcome:
    match request:
        case requests.DetachRequest() | requests.Kill(answered=True):
            return Close(Ok(), Detach.RESUME)
        case requests.Kill():
            return Close(None, Detach.RESUME)
        case _:
            raise TargetGoneError("the target has ended")

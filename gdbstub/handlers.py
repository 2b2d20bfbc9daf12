"""The table from request to handler, and the one way to call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gdbstub import (
    handle_control,
    handle_files,
    handle_lldb,
    handle_query,
    handle_run,
    handle_share,
    handle_state,
    handle_transfer,
    requests,
    requests_control,
    requests_lldb,
)
from gdbstub.context import Close, Context, Outcome, Silent
from gdbstub.errors import RequestError, TargetBusyError, TargetError, TargetGoneError
from gdbstub.replies import Error, Ok
from gdbstub.session import Malformed, State
from gdbstub.target import Detach

Handler = Callable[[Context, Any], Awaitable[Outcome]]

HANDLERS: dict[type[Any], Handler] = {
    requests.Unknown: handle_query.unknown,
    requests.Supported: handle_query.supported,
    requests.StartNoAckMode: handle_query.start_no_ack_mode,
    requests.StopQuery: handle_query.stop_query,
    requests.AttachedQuery: handle_query.attached_query,
    requests.SelectThread: handle_query.select_thread,
    requests.ThreadAlive: handle_query.thread_alive,
    requests.CurrentThread: handle_query.current_thread,
    requests.FirstThreads: handle_query.first_threads,
    requests.NextThreads: handle_query.next_threads,
    requests.ThreadExtra: handle_query.thread_extra,
    requests.Transfer: handle_transfer.transfer,
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
    requests_lldb.EnableOption: handle_lldb.enable_option,
    requests_lldb.HostInfo: handle_lldb.host_info,
    requests_lldb.ProcessInfo: handle_lldb.process_info,
    requests_lldb.ServerVersion: handle_lldb.server_version,
    requests_lldb.DetachStopped: handle_lldb.detach_stopped,
    requests_lldb.Echo: handle_lldb.echo,
    requests_lldb.ThreadsInfo: handle_lldb.threads_info,
    requests_lldb.ThreadStop: handle_lldb.thread_stop,
    requests_lldb.RegionQuery: handle_lldb.region_query,
    requests_lldb.ReadMany: handle_lldb.read_many,
    requests_lldb.PointMany: handle_lldb.point_many,
    requests_lldb.SaveRegisters: handle_lldb.save_registers,
    requests_lldb.RestoreRegisters: handle_lldb.restore_registers,
    requests_control.ExtendedMode: handle_control.extended_mode,
    requests_control.RestartRequest: handle_control.restart_request,
    requests_control.RunProgram: handle_control.run_program,
    requests_control.AttachTo: handle_control.attach_to,
    requests_control.SetNonStop: handle_control.set_non_stop,
    requests_control.NextStop: handle_control.next_stop,
    requests_control.CtrlC: handle_control.ctrl_c,
    requests_control.BranchTraceRequest: handle_transfer.branch_trace,
    requests_control.BranchTraceSize: handle_transfer.branch_trace_size,
    requests_control.FileSystem: handle_files.file_system,
    requests_control.FileOpen: handle_files.file_open,
    requests_control.FileClose: handle_files.file_close,
    requests_control.FileRead: handle_files.file_read,
    requests_control.FileStat: handle_files.file_stat,
    requests_control.FileSize: handle_files.file_size,
    requests_control.FileChange: handle_files.file_change,
}

WITHOUT_ATTACHING = frozenset({requests.Supported, requests.StartNoAckMode})
"""A client may send these and leave again; the target does not notice."""
AFTER_THE_END = WITHOUT_ATTACHING | {requests.StopQuery, requests.AttachedQuery, requests.Unknown}
"""What a target that has ended still answers; `D` and `k` close."""

WITHOUT_A_PROCESS = WITHOUT_ATTACHING | {
    requests.StopQuery,
    requests.AttachedQuery,
    requests.Unknown,
    requests_control.ExtendedMode,
    requests_control.AttachTo,
    requests_control.RunProgram,
    requests_control.FileSystem,
}
"""What an extended-remote client that has detached may send. It comes back by `vAttach` or `vRun`."""

SHOWN_BY_GDB = frozenset(
    {requests.WriteRegister, requests.WriteGeneral, requests.Cont, requests.LegacyResume}
)
"""Requests whose ``E.text`` gdb shows also in versions that do not offer ``error-message+``."""


async def dispatch(context: Context, request: requests.Request | Malformed) -> Outcome:
    """Answer one request. The first that needs the target attaches it."""
    try:
        if context.session.state is State.UNATTACHED and type(request) not in WITHOUT_ATTACHING:
            await context.attach()
        if isinstance(request, Malformed):
            raise RequestError(request.text)
        if context.session.state is State.ENDED and type(request) not in AFTER_THE_END:
            return _after_the_end(request)
        if context.session.state is State.DETACHED and type(request) not in WITHOUT_A_PROCESS:
            return _without_a_process(request)
        if context.session.looks_on and (instead := await handle_share.guard(context, request)) is not None:
            return instead
        return await HANDLERS[type(request)](context, request)
    except TargetBusyError as error:
        return Close(Error(error.number, str(error), always_text=True), Detach.LOST)
    except (RequestError, TargetError) as error:
        # Of all clients only gdb offers this feature, and its versions since then take text here.
        text = type(request) in SHOWN_BY_GDB and b"no-resumed+" in context.session.features
        return Error(error.number, str(error), always_text=text)


def _after_the_end(request: requests.Request) -> Outcome:
    match request:
        case requests.DetachRequest() | requests.Kill(answered=True):
            return Close(Ok(), Detach.RESUME)
        case requests.Kill():
            return Close(None, Detach.RESUME)
        case _:
            raise TargetGoneError("the target has ended")


def _without_a_process(request: requests.Request) -> Outcome:
    match request:
        case requests.Kill(answered=False):
            return Silent()
        case _:
            raise TargetGoneError("detached; 'attach 1' or 'run' comes back")

"""Handlers for processes (extended-remote) and for non-stop mode."""

from __future__ import annotations

from gdbstub.context import ChangeMode, Context, Leave, Outcome, Silent
from gdbstub.errors import RequestError, UnsupportedError
from gdbstub.handle_query import event_reply, stop_reply
from gdbstub.replies import Empty, Ok
from gdbstub.requests_control import (
    AttachTo,
    CtrlC,
    ExtendedMode,
    NextStop,
    RestartRequest,
    RunProgram,
    SetNonStop,
)
from gdbstub.session import State
from gdbstub.target import Detach, Stop

_PROCESS = 1


async def extended_mode(context: Context, request: ExtendedMode) -> Outcome:
    """`!`: for a target that can start again."""
    if context.capabilities.restart is None:
        return Empty()
    context.session.extended = True
    return Ok()


async def restart_request(context: Context, request: RestartRequest) -> Outcome:
    """`R`: no reply. The client asks for the new stop by `?`."""
    if context.capabilities.restart is None:
        return Empty()
    _all_stop(context)
    context.session.noted(await context.capabilities.restart.restart())
    return Silent()


async def run_program(context: Context, request: RunProgram) -> Outcome:
    """`vRun`: start the one program there is again. The reply is its first stop."""
    capability, session = context.capabilities.restart, context.session
    if capability is None:
        return Empty()
    files = context.capabilities.virtual_files
    known = {"", None if files is None or session.state is State.DETACHED else await files.executable()}
    if request.file not in known:
        raise UnsupportedError("only the loaded program can be run")
    _all_stop(context)
    await _come_back(context)
    stop = await capability.restart()
    session.noted(stop)
    return await stop_reply(context, stop)


async def attach_to(context: Context, request: AttachTo) -> Outcome:
    """`vAttach`: come back to the process after a detach. The reply is its stop."""
    if context.capabilities.restart is None:
        return Empty()
    if request.process != _PROCESS:
        raise RequestError("there is one process, 1")
    await _come_back(context)
    event = context.session.last_event
    if not isinstance(event, Stop):
        raise RequestError("the process has ended")
    return await stop_reply(context, event)


def _all_stop(context: Context) -> None:
    if context.session.non_stop is not None:
        raise UnsupportedError("not in non-stop mode")


async def _come_back(context: Context) -> None:
    if context.session.state is State.DETACHED:
        await context.attach()


def leaving(context: Context, how: Detach, *, answered: bool = True) -> Outcome | None:
    """In extended mode a client that is done with the process stays connected."""
    if not context.session.extended:
        return None
    return Leave(Ok() if answered else None, how)


async def set_non_stop(context: Context, request: SetNonStop) -> Outcome:
    """`QNonStop`."""
    if context.capabilities.non_stop is None:
        return Empty()
    return ChangeMode(request.on)


async def next_stop(context: Context, request: NextStop) -> Outcome:
    """`vStopped`: the client has the first stop of the queue; tell the next."""
    state = context.session.non_stop
    if context.capabilities.non_stop is None:
        return Empty()
    if state is None or not state.told:
        return Ok()
    state.queue.popleft()
    state.told = bool(state.queue)
    if not state.queue and state.later:
        context.session.send(Ok())
        state.queue.extend(state.later)
        state.later = []
        state.told = True
        context.session.notify(await event_reply(context, state.queue[0]))
        return Silent()
    return await event_reply(context, state.queue[0]) if state.queue else Ok()


async def ctrl_c(context: Context, request: CtrlC) -> Outcome:
    """`vCtrlC`: stop all that runs. In all-stop mode nothing does when a packet is looked at."""
    capability, state = context.capabilities.non_stop, context.session.non_stop
    if capability is None:
        return Empty()
    if state is not None:
        running = [info.id for info in await context.target.threads() if info.id not in state.stops]
        await capability.halt(running)
    return Ok()

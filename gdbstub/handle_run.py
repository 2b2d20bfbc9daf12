"""Handlers for resuming, breakpoints and leaving; and the replies to what a resume ends with."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from gdbstub import agent
from gdbstub.capabilities import Capabilities, NonStop
from gdbstub.context import Close, Context, Outcome, Resume
from gdbstub.errors import RequestError, UnsupportedError
from gdbstub.fields import ALL_THREADS, ANY_THREAD
from gdbstub.handle_control import leaving
from gdbstub.handle_query import event_reply, send_console
from gdbstub.replies import Empty, Ok, Raw, Reply
from gdbstub.requests import (
    Cont,
    ContAction,
    ContQuery,
    DetachRequest,
    Kill,
    LegacyResume,
    Point,
)
from gdbstub.session import NonStopState
from gdbstub.target import (
    Action,
    BreakpointKind,
    Conditions,
    Continue,
    Detach,
    Event,
    ResumePlan,
    Stay,
    Step,
    StepRange,
    ThreadAction,
    WatchKind,
)

BREAKPOINTS = {0: BreakpointKind.SOFTWARE, 1: BreakpointKind.HARDWARE}
WATCHPOINTS = {2: WatchKind.WRITE, 3: WatchKind.READ, 4: WatchKind.ACCESS}


async def report(context: Context, event: Event) -> Reply:
    """Queue the sentence that comes with `event`, and give its reply."""
    if event.text:
        send_console(context, event.text.rstrip("\n") + "\n")
    return await event_reply(context, event)


async def cont_query(context: Context, request: ContQuery) -> Outcome:
    """`vCont?`."""
    ranges = b";r" if context.capabilities.range_stepping is not None else b""
    stops = b";t" if context.capabilities.non_stop is not None else b""
    return Raw(b"vCont;c;C;s;S" + ranges + stops)


def _action(context: Context, action: ContAction) -> Action:
    match action.kind:
        case "c" | "C":
            return Continue(action.signal)
        case "s" | "S":
            return Step(action.signal)
        case "r" if context.capabilities.range_stepping is not None:
            return StepRange(action.start, action.end)
        case "t":
            return Stay()
        case _:
            raise UnsupportedError("no range steps here")


async def cont(context: Context, request: Cont) -> Outcome:
    """`vCont`: leftmost matching action first; a thread without one stays."""
    last, present = context.session.last_plan, context.continue_thread()
    if last is not None and last[0] is request and last[1] == present:
        return Resume(last[2])
    known = [info.id for info in await context.target.threads()]
    entries = []
    for requested in request.actions:
        thread = present if requested.thread == ANY_THREAD else requested.thread
        if thread != ALL_THREADS and thread not in known:
            await context.thread_info(thread)
        entries.append(ThreadAction(_action(context, requested), None if thread == ALL_THREADS else thread))
    plan = ResumePlan(tuple(entries))
    if context.session.non_stop is not None and context.capabilities.non_stop is not None:
        return await _cont_non_stop(context.capabilities.non_stop, context.session.non_stop, plan, known)
    if all(isinstance(plan.action_for(thread), Stay) for thread in known):
        raise RequestError("no thread would run")
    context.session.last_plan = (request, present, plan)
    return Resume(plan)


async def _cont_non_stop(
    capability: NonStop, state: NonStopState, plan: ResumePlan, known: list[int]
) -> Outcome:
    """`vCont` in non-stop mode: each thread named begins or, by ``t``, ends; the others go on as they are.

    A thread whose stop the client has still to fetch is not meant by a resume: it would stop twice for a
    client that has resumed it once, and gdb has an internal error then.
    """
    named = [(thread, plan.action_for(thread)) for thread in known if plan.names(thread)]
    ready = state.stops.keys() - state.unfetched()
    begin = [(thread, action) for thread, action in named if thread in ready]
    end = [thread for thread, action in named if isinstance(action, Stay) and thread not in state.stops]
    moving = [ThreadAction(action, thread) for thread, action in begin if not isinstance(action, Stay)]
    if moving:
        await capability.start(ResumePlan(tuple(moving)))
        for entry in moving:
            state.stops.pop(entry.thread or ANY_THREAD, None)
    state.halted.update(end)
    if end:
        await capability.halt(end)
    return Ok()


async def legacy_resume(context: Context, request: LegacyResume) -> Outcome:
    """`c`, `s`, `C`, `S`: for the thread of `Hc` alone, or else for the present one while all others run."""
    target, session = context.target, context.session
    if session.non_stop is not None:
        raise UnsupportedError("non-stop mode resumes by vCont")
    thread = context.continue_thread()
    if request.address is not None:
        register = target.description.by_name(target.description.program_counter)
        if request.address >> register.bits:
            raise RequestError("no such address")
        value = request.address.to_bytes(register.size, target.description.byte_order)
        await target.write_registers(thread, [(register.name, value)])
    action = Step(request.signal) if request.step else Continue(request.signal)
    if session.selected_continue not in (ANY_THREAD, ALL_THREADS):
        return Resume(ResumePlan((ThreadAction(action, thread),)))
    if not request.step and not request.signal:
        return Resume(ResumePlan((ThreadAction(action),)))
    return Resume(ResumePlan((ThreadAction(action, thread), ThreadAction(Continue()))))


async def point(context: Context, request: Point) -> Outcome:
    """`Z` and `z`. A kind of point that the target lacks gets the empty reply."""
    change = _change(context.capabilities, request)
    if change is None or (request.extra and context.capabilities.conditions is None):
        return Empty()
    if request.insert and context.capabilities.conditions is not None:
        await _insert(context, request, change, context.capabilities.conditions)
    else:
        await change()
    return Ok()


def _change(capabilities: Capabilities, request: Point) -> Callable[[], Awaitable[None]] | None:
    """What `request` asks of the target; None when it has no such points."""
    breakpoints, watchpoints = capabilities.breakpoints, capabilities.watchpoints
    address, size = request.address, request.kind
    if (kind := BREAKPOINTS.get(request.type)) is not None and breakpoints is not None:
        change = breakpoints.set_breakpoint if request.insert else breakpoints.clear_breakpoint
        return functools.partial(change, kind, address, size)
    if (watch := WATCHPOINTS.get(request.type)) is not None and watchpoints is not None:
        if size == 0:
            raise RequestError("a watchpoint of no bytes")
        watched = watchpoints.set_watchpoint if request.insert else watchpoints.clear_watchpoint
        return functools.partial(watched, watch, address, size)
    return None


async def _insert(
    context: Context, request: Point, change: Callable[[], Awaitable[None]], capability: Conditions
) -> None:
    """Set a point with its conditions and commands, which replace those that it had."""
    extras = agent.parse_extras(request.extra)
    description = context.target.description
    conditions = [agent.condition(bytecode, description) for bytecode in extras.conditions]
    commands = [agent.translate(bytecode, description, command=True) for bytecode in extras.commands]
    kind = BREAKPOINTS.get(request.type) or WATCHPOINTS[request.type]
    await change()
    await capability.set_conditions(kind, request.address, request.kind, conditions, commands, extras.persist)


async def detach(context: Context, request: DetachRequest) -> Outcome:
    """`D`, and LLDB's `D1`."""
    how = Detach.STAY if request.stay else Detach.RESUME
    return leaving(context, how) or Close(Ok(), how)


async def kill(context: Context, request: Kill) -> Outcome:
    """`k` and `vKill`. Nothing answers `k`.

    In extended mode the target only stands still, so that `vRun` can start it again.
    """
    if (left := leaving(context, Detach.STAY, answered=request.answered)) is not None:
        return left
    if context.capabilities.killable is not None:
        await context.capabilities.killable.kill()
    return Close(Ok() if request.answered else None, Detach.RESUME)

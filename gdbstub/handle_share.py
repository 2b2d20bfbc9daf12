"""What a client that looks on may do, and how control moves. The lease is `gdbstub.lease`."""

from __future__ import annotations

from gdbstub import requests, requests_control, requests_lldb
from gdbstub.capabilities import Shared
from gdbstub.context import Context, Follow, Outcome
from gdbstub.errors import EBUSY
from gdbstub.lease import Seat
from gdbstub.replies import Error
from gdbstub.target import Stop

CONTROLLING = frozenset(
    {
        requests.WriteGeneral,
        requests.WriteRegister,
        requests.WriteMemory,
        requests.Cont,
        requests.LegacyResume,
        requests.Point,
        requests.Kill,
        requests.SetStepPolicy,
        requests_control.RestartRequest,
        requests_control.RunProgram,
        requests_control.SetNonStop,
        requests_control.CtrlC,
        requests_control.BranchTraceRequest,
        requests_lldb.PointMany,
        requests_lldb.RestoreRegisters,
    }
)
"""Requests that change something others would notice."""


def refusal(context: Context) -> Error:
    """The answer to a client that does not have control."""
    seat = context.session.seat
    holder = None if context.capabilities.shared is None else context.capabilities.shared.lease.holder
    name = "somebody else" if holder is None or holder is seat else holder.name
    return Error(EBUSY, f"the target is controlled by {name}; 'monitor control take' takes it", True)


async def guard(context: Context, request: requests.Request) -> Outcome | None:
    """What a client that looks on (`Session.looks_on`) gets instead of `request`; None to go on with it.

    One to whom control has passed enters it with the first request that needs it.
    """
    session, shared = context.session, context.capabilities.shared
    if shared is None or not _controls(context, shared, request):
        return None
    if session.seat is not None and session.seat.controls:
        await _enter(context, shared)
        return None
    if isinstance(request, requests.Cont | requests.LegacyResume) and shared.runs():
        return Follow()
    return refusal(context)


def _controls(context: Context, shared: Shared, request: requests.Request) -> bool:
    if isinstance(request, requests.MonitorCommand):
        return not (is_control(request) or shared.only_reads(request.command))
    if isinstance(request, requests.LegacyResume | requests.Cont):
        return True
    return type(request) in CONTROLLING and not _is_harmless(request)


def _is_harmless(request: requests.Request) -> bool:
    """gdb tries whether `X` is known with a write of nothing, and asks for the mode that every session begins
    in."""
    match request:
        case requests.WriteMemory(data=data):
            return not data
        case requests_control.SetNonStop(on=on):
            return not on
        case _:
            return False


async def _enter(context: Context, shared: Shared) -> None:
    stop = await shared.take_control()
    context.session.looks_on = False
    context.session.noted(stop)


def is_control(request: requests.MonitorCommand) -> bool:
    """Whether this is the server's own command, ``monitor control``."""
    return request.command.split()[:1] == ["control"]


async def control(context: Context, command: str) -> str:
    """``control``, ``control take``, ``control release``: the text to show."""
    shared, seat = context.capabilities.shared, context.session.seat
    if shared is None or seat is None:
        return "this target has one client at a time\n"
    match command.split()[1:]:
        case []:
            return _overview(shared, seat)
        case ["take"]:
            return await _take(context, shared, seat)
        case _:
            return "usage: control, control take\n"


def _overview(shared: Shared, own: Seat) -> str:
    rows = [
        f"{'controls' if seat.controls else 'looks on'}  {seat.name}{' (this one)' if seat is own else ''}\n"
        for seat in shared.lease.seats
    ]
    return "".join(rows)


async def _take(context: Context, shared: Shared, seat: Seat) -> str:
    before = shared.lease.holder
    if not context.session.looks_on:
        return "control is here already\n"
    await seat.take()
    await _enter(context, shared)
    event = context.session.last_event
    where = f" in thread {event.thread}" if isinstance(event, Stop) else ""
    why = f": {event.text}" if isinstance(event, Stop) and event.text else ""
    came = "is here" if before in (None, seat) else f"taken from {before.name}"
    return f"control {came}; the target stands{where}{why}\n"

"""The session: order, acknowledgement, and the state table."""

import pytest

from gdbstub import requests as rq
from gdbstub.errors import ProtocolError, StubError
from gdbstub.framing import frame
from gdbstub.replies import Ok, Raw
from gdbstub.session import Interrupted, Malformed, Session, State, Step
from gdbstub.target import Exited, Stop, StopReason

STOP = Stop(StopReason.ATTACHED, 2)

ALLOWED = {
    ("UNATTACHED", "ATTACHED"): "IDLE",
    ("IDLE", "RESUMED"): "RUNNING",
    ("IDLE", "JOB_STARTED"): "BUSY",
    ("BUSY", "JOB_DONE"): "IDLE",
    ("RUNNING", "STOPPED"): "IDLE",
    ("RUNNING", "ENDED"): "ENDED",
    ("IDLE", "ENDED"): "ENDED",
    ("IDLE", "LEFT"): "DETACHED",
    ("ENDED", "LEFT"): "DETACHED",
    ("DETACHED", "ATTACHED"): "IDLE",
    ("DETACHED", "CLOSED"): "CLOSED",
    ("UNATTACHED", "CLOSED"): "CLOSED",
    ("IDLE", "CLOSED"): "CLOSED",
    ("RUNNING", "CLOSED"): "CLOSED",
    ("BUSY", "CLOSED"): "CLOSED",
    ("ENDED", "CLOSED"): "CLOSED",
    ("CLOSED", "CLOSED"): "CLOSED",
}


def attached() -> Session:
    session = Session()
    session.receive_data(frame(b"?"))
    assert session.next_event() == rq.StopQuery()
    session.attached(STOP)
    session.take_output()
    return session


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", State)
def test_only_the_steps_of_the_diagram_are_possible(state: State, step: Step) -> None:
    session = Session()
    session.state = state
    after = ALLOWED.get((state.name, step.name))
    if after is None:
        with pytest.raises(StubError):
            session.advance(step)
    else:
        session.advance(step)
        assert session.state.name == after


def test_a_packet_is_acknowledged_before_its_reply() -> None:
    session = Session()
    session.receive_data(b"+$?#3f")
    session.next_event()
    session.send(Raw(b"S05"))
    assert session.take_output() == b"+$S05#b8"
    assert session.take_output() == b""


def test_a_damaged_packet_is_asked_for_again() -> None:
    session = Session()
    session.receive_data(b"$?#00")
    assert session.next_event() is None
    assert session.take_output() == b"-"


def test_a_minus_brings_the_last_reply_again() -> None:
    session = attached()
    session.send(Raw(b"S05"))
    session.take_output()
    session.receive_data(b"-")
    assert session.next_event() is None
    assert session.take_output() == b"$S05#b8"


def test_an_opening_that_is_repeated_before_its_answer_is_answered_once() -> None:
    """gdb repeats it every two seconds to a server that is slow to start."""
    session, opening = Session(), frame(b"qSupported:swbreak+")
    session.receive_data(b"+" + opening + opening)
    assert isinstance(session.next_event(), rq.Supported)
    assert session.next_event() is None
    session.send(Raw(b"PacketSize=1000"))
    session.receive_data(opening)
    assert session.next_event() is None
    assert session.take_output() == b"+" + frame(b"PacketSize=1000")
    session.receive_data(b"+" + opening)
    assert isinstance(session.next_event(), rq.Supported)


def test_another_packet_ends_the_opening() -> None:
    session = Session()
    for payload in (b"qSupported", b"?", b"qSupported", b"qSupported"):
        session.receive_data(frame(payload))
        assert session.next_event() is not None


def test_in_no_ack_mode_nothing_is_acknowledged_or_verified() -> None:
    session = attached()
    session.stop_acknowledging()
    session.receive_data(b"$g#00-")
    assert session.next_event() == rq.ReadGeneral()
    assert session.next_event() is None
    session.send(Ok())
    assert session.take_output() == b"$OK#9a"


def test_a_packet_that_does_not_parse_is_an_event() -> None:
    session = attached()
    session.receive_data(frame(b"mzz"))
    assert isinstance(session.next_event(), Malformed)


def test_an_interrupt_counts_while_something_runs() -> None:
    session = attached()
    session.advance(Step.RESUMED)
    session.receive_data(b"\x03")
    assert session.next_event() == Interrupted()
    assert session.next_event() is None


def test_an_interrupt_while_stopped_counts_for_the_resume_behind_it() -> None:
    session = attached()
    session.receive_data(b"\x03" + frame(b"vCont;c"))
    assert isinstance(session.next_event(), rq.Cont)
    session.advance(Step.RESUMED)
    assert session.next_event() == Interrupted()
    assert session.next_event() is None


def test_an_interrupt_while_stopped_is_forgotten_with_the_next_question() -> None:
    session = attached()
    session.receive_data(b"\x03" + frame(b"g") + frame(b"vCont;c"))
    assert session.next_event() == rq.ReadGeneral()
    assert isinstance(session.next_event(), rq.Cont)
    session.advance(Step.RESUMED)
    assert session.next_event() is None


def test_an_interrupt_while_stopped_is_forgotten_with_a_question_that_comes_later() -> None:
    session = attached()
    session.receive_data(b"\x03")
    assert session.next_event() is None
    for payload in (b"g", b"vCont;c"):
        session.receive_data(frame(payload))
        assert session.next_event() is not None
    session.advance(Step.RESUMED)
    assert session.next_event() is None


def test_an_interrupt_is_forgotten_with_the_run_that_was_shorter() -> None:
    session = attached()
    session.receive_data(b"\x03" + frame(b"vCont;s"))
    assert isinstance(session.next_event(), rq.Cont)
    session.advance(Step.RESUMED)
    session.stopped(STOP)
    session.advance(Step.RESUMED)
    assert session.next_event() is None


@pytest.mark.parametrize("begin", [Step.RESUMED, Step.JOB_STARTED])
def test_packets_wait_while_something_runs_and_interrupts_pass_them(begin: Step) -> None:
    session = attached()
    session.advance(begin)
    session.receive_data(frame(b"g") + b"\x03" + frame(b"?"))
    assert session.next_event() == Interrupted()
    assert session.next_event() is None
    if begin is Step.RESUMED:
        session.stopped(STOP)
    else:
        session.advance(Step.JOB_DONE)
    assert session.next_event() == rq.ReadGeneral()
    assert session.next_event() == rq.StopQuery()
    assert session.next_event() is None


@pytest.mark.parametrize("payload", [b"g", b"m" + b"0" * 100_000])
def test_waiting_packets_are_bounded(payload: bytes) -> None:
    session = attached()
    session.advance(Step.RESUMED)

    def flood() -> None:
        for _ in range(10_000):
            session.receive_data(frame(payload))
            session.next_event()

    with pytest.raises(ProtocolError):
        flood()


def test_a_stop_selects_its_thread() -> None:
    session = attached()
    assert session.selected_general == 2
    session.selected_general = session.selected_continue = 1
    session.advance(Step.RESUMED)
    session.stopped(Stop(StopReason.STEP, 4))
    assert (session.selected_general, session.selected_continue) == (4, 0)


def test_the_end_of_the_target_ends_running() -> None:
    session = attached()
    session.advance(Step.RESUMED)
    session.stopped(Exited(0))
    assert session.state is State.ENDED


def test_only_features_that_matter_are_kept_and_a_new_offer_replaces_the_old() -> None:
    session = Session()
    session.negotiate(frozenset({b"swbreak+", b"x" * 1000, b"hwbreak-"}))
    assert session.features == {b"swbreak+"}
    session.negotiate(frozenset({b"hwbreak+"}))
    assert session.features == {b"hwbreak+"}


def test_a_closed_session_gives_no_events() -> None:
    session = attached()
    session.receive_data(frame(b"g"))
    session.advance(Step.CLOSED)
    assert session.next_event() is None


def test_why_the_target_stood_is_said_when_it_goes_on() -> None:
    session = Session()
    session.attached(Stop(StopReason.EVENT, 1, text="vCPU 0: triple fault"))
    assert session.take_output() == b""
    session.advance(Step.RESUMED)
    text = b"stopped before the debugger came: vCPU 0: triple fault\n"
    assert session.take_output() == frame(b"O" + text.hex().encode())
    session.stopped(STOP)
    session.advance(Step.RESUMED)
    assert session.take_output() == b""

"""Random debugging sessions replay to the same state; see `tests.helpers.random_session`."""

import pytest

from tests.helpers.random_session import ONE, TWO, Session, Stage, close, difference

SESSIONS = 60


@pytest.mark.parametrize("stage", [ONE, TWO], ids=["one vCPU", "two vCPUs"])
def test_random_sessions_replay(stage: Stage) -> None:
    assert [wrong for seed in range(SESSIONS) if (wrong := difference(stage, seed))] == []


@pytest.mark.parametrize("stage", [ONE, TWO], ids=["one vCPU", "two vCPUs"])
def test_the_sessions_have_everything_in_them(stage: Stage) -> None:
    kinds = set()
    for seed in range(SESSIONS):
        session = Session(stage, seed)
        session.run()
        close(session.control)
        kinds |= {type(item).__name__ for _, item in session.log.items}
    assert {"BegunTick", "HeldTicks", "InjectEvent", "IrqMask", "MachineReset", "MemoryWrite"} <= kinds
    assert {"PortAccess", "RegisterWrite"} <= kinds

"""The way that a vCPU took, from the core's ring of taken branches: ``record btrace bts``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gdbstub.capabilities import Block
from gdbstub.errors import TargetError
from gdbstub.target import Client
from hv.debug.run_control import RunControl
from hv.debug.target_base import TargetBase
from hv.vcpu import Vcpu

BLOCK_SIZE: Final = 16
"""Bytes of a block, as the protocol counts them."""
MIN_BLOCKS: Final = 32
MAX_BLOCKS: Final = 1 << 16
"""Kept at most, whatever is asked for: a client reads them all at once."""


@dataclass(frozen=True, slots=True)
class _Recording:
    start: int
    """Where the vCPU stood when it began."""
    blocks: int


class TargetBranchTrace(TargetBase):
    """`BranchTrace`. Recordings end with the connection's control; the guest does not see them."""

    def __init__(self, control: RunControl, client: Client) -> None:
        super().__init__(control, client)
        self._recordings: dict[int, _Recording] = {}

    async def set_branch_trace(self, thread: int, size: int | None) -> None:
        """See `gdbstub.capabilities.BranchTrace`."""
        vcpu = self._vm.vcpus[self._vcpu(thread)]
        await self._call(lambda: self._end(vcpu) if size is None else self._begin(vcpu, size))

    async def branch_trace(self, thread: int) -> Sequence[Block]:
        """See `gdbstub.capabilities.BranchTrace`."""
        vcpu = self._vm.vcpus[self._vcpu(thread)]
        return await self._call(lambda: self._blocks(vcpu))

    def _begin(self, vcpu: Vcpu, size: int) -> None:
        self._end(vcpu)
        blocks = min(max(size // BLOCK_SIZE, MIN_BLOCKS), MAX_BLOCKS)
        vcpu.cpu.resize_branches(blocks)
        self._recordings[vcpu.index] = _Recording(vcpu.get("linear_pc"), blocks)
        self._control.catches.record_branches(vcpu.index, True)

    def _end(self, vcpu: Vcpu) -> None:
        if self._recordings.pop(vcpu.index, None) is not None:
            self._control.catches.record_branches(vcpu.index, False)
            vcpu.cpu.resize_branches(MIN_BLOCKS)

    def _blocks(self, vcpu: Vcpu) -> list[Block]:
        recording = self._recordings.get(vcpu.index)
        if recording is None:
            raise TargetError(f"the branches of vCPU {vcpu.index} are not recorded")
        found: list[Block] = []
        end = vcpu.get("linear_pc")
        branches = vcpu.cpu.branches(recording.blocks)
        for branch in branches:
            found.append(Block(branch.target, end))
            end = branch.source
        if len(branches) == vcpu.cpu.branch_count():
            found.append(Block(recording.start, end))
        return found

    def _drop(self) -> None:
        for index in list(self._recordings):
            self._end(self._vm.vcpus[index])
        super()._drop()

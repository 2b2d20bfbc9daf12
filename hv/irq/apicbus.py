"""The APIC bus: who gets an interrupt message, and the messages devices and processors send.

Sources: Intel SDM vol. 3, "Advanced Programmable Interrupt Controller", sections "Determining IPI
Destination", "Issuing Interprocessor Interrupts", "Message Signalled Interrupts".

Delivery is immediate and in order of APIC ID, so a run never depends on arbitration. A lowest-priority
message goes to the software-enabled destination with the lowest processor priority class, and among
equals to the one with the lowest APIC ID. System management interrupts and ExtINT messages are
dropped: there is no SMM, and the 8259 pair is wired to LINT0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

MSI_ADDRESS: Final = 0xFEE0_0000
MSI_RH: Final = 1 << 3
MSI_DM: Final = 1 << 2
BROADCAST: Final = 0xFF
BROADCAST_WIDE: Final = 0xFFFF_FFFF


class Delivery(IntEnum):
    """Delivery mode of a message, an LVT entry or a redirection entry."""

    FIXED = 0
    LOWEST = 1
    SMI = 2
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


@dataclass(frozen=True, slots=True)
class Message:
    """One interrupt message. `wide` says that `destination` has 32 bits (sent in x2APIC mode)."""

    mode: int
    vector: int
    destination: int
    logical: bool = False
    level: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class ApicHooks:
    """What the rest of the machine does on events of vCPU `cpu`; each gets the vCPU's index.

    `on_change`: what may be delivered to it has changed. `on_init`: INIT, its local APIC was reset
    already. `on_sipi`: start-up message with the vector, to be ignored unless the vCPU waits for it.
    """

    on_init: Callable[[int], None]
    on_sipi: Callable[[int, int], None]
    on_nmi: Callable[[int], None]
    on_change: Callable[[int], None]


class Receiver(Protocol):
    """What the bus needs to know of a local APIC."""

    @property
    def enabled(self) -> bool:
        """Enabled in IA32_APIC_BASE."""
        ...

    @property
    def software_enabled(self) -> bool:
        """Enabled in the spurious-interrupt vector register."""
        ...

    @property
    def ppr(self) -> int:
        """Processor priority, 0-255."""
        ...

    def matches(self, message: Message) -> bool:
        """Whether the message's destination, not a broadcast, names this APIC."""
        ...

    def receive(self, mode: int, vector: int, level: bool) -> None:
        """Take a message."""
        ...


class ApicBus:
    """Routes messages to the local APICs and EOI broadcasts to the I/O APICs."""

    def __init__(self, hooks: ApicHooks) -> None:
        self.hooks = hooks
        self._receivers: list[Receiver] = []
        self._eoi_sinks: list[Callable[[int], None]] = []

    def attach(self, receiver: Receiver) -> None:
        """Add a local APIC; in order of APIC ID."""
        self._receivers.append(receiver)

    def attach_eoi(self, sink: Callable[[int], None]) -> None:
        """Tell `sink` the vector of every EOI of a level-triggered interrupt."""
        self._eoi_sinks.append(sink)

    def deliver(self, message: Message) -> bool:
        """Send to the message's destination; whether any local APIC was addressed."""
        broadcast = message.destination == (BROADCAST_WIDE if message.wide else BROADCAST)
        return self._send(
            [r for r in self._receivers if r.enabled and (broadcast or r.matches(message))], message
        )

    def deliver_all(self, message: Message, but: Receiver | None = None) -> bool:
        """Send to every local APIC, or to every one but the sender (destination shorthands)."""
        return self._send([r for r in self._receivers if r.enabled and r is not but], message)

    def _send(self, targets: list[Receiver], message: Message) -> bool:
        if message.mode == Delivery.LOWEST:
            able = [r for r in targets if r.software_enabled]
            targets = [min(able, key=lambda r: r.ppr >> 4)] if able else []
        for receiver in targets:
            receiver.receive(message.mode, message.vector, message.level)
        return bool(targets)

    def msi(self, address: int, data: int) -> None:
        """A device's message-signalled interrupt; always edge-triggered.

        Ignored unless the address lies in FEExxxxx. Logical addressing needs both RH and DM.
        """
        if address & ~0xF_FFFF != MSI_ADDRESS:
            return
        logical = address & (MSI_RH | MSI_DM) == MSI_RH | MSI_DM
        mode = data >> 8 & 7
        self.deliver(Message(mode, data & 0xFF, address >> 12 & 0xFF, logical))

    def eoi(self, vector: int) -> None:
        """Broadcast the end of a level-triggered interrupt."""
        for sink in self._eoi_sinks:
            sink(vector)

"""The local APIC of one vCPU: its state, and how interrupts get in, through and out.

Source: Intel SDM vol. 3, "Advanced Programmable Interrupt Controller" (LVT, error handling,
interrupt acceptance, "Extended XAPIC (x2APIC)"). The 256-bit IRR, ISR and TMR are integers, bit v for
vector v. The registers as the guest sees them are in `hv.irq.lapic`.

The processor side is not here. Before an entry the vCPU loop asks `pending_vector`, and at the moment
it injects the vector calls `accept`, which moves it from IRR to ISR: a second message with the same
vector that arrives after that is a second interrupt. CR8 is `tpr >> 4`; `set_tpr` is its other
direction. What may be delivered is announced through `ApicHooks.on_change`; INIT, start-up and NMI
through the other hooks.

Not modelled: SMM, arbitration (its ID register reads 0), polarity, logical destination through DFR
values other than flat and cluster.
"""

from collections.abc import Callable, Mapping
from typing import Final

from hv.clock import MachineClock
from hv.device import Field, State, Value, check_header, child, load_fields, save_fields
from hv.irq.apicbus import ApicBus, Delivery, Message
from hv.irq.lapic_timer import LVT_MASKED, LapicTimer
from hv.machines.layout import LAPIC_BASE

BASE_BSP: Final = 1 << 8
BASE_X2APIC: Final = 1 << 10
BASE_ENABLE: Final = 1 << 11
SVR_ENABLE: Final = 1 << 8
SVR_NO_EOI_BROADCAST: Final = 1 << 12
ESR_SEND_ILLEGAL: Final = 1 << 5
ESR_RECEIVE_ILLEGAL: Final = 1 << 6
LVT_REMOTE_IRR: Final = 1 << 14
LVT_LEVEL: Final = 1 << 15
ICR_LOGICAL: Final = 1 << 11
ICR_ASSERT: Final = 1 << 14
ICR_LEVEL: Final = 1 << 15

# Order of the local vector table in `lvt`.
CMCI, TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR = range(7)


class LapicCore:
    """Local APIC number `index`, whose APIC ID is the same number; number 0 belongs to the BSP.

    `moved` is called when the xAPIC page appears, disappears or moves (`mmio_base`).
    """

    kind: Final = "lapic"
    version: Final = 1
    _fields: Final = (
        Field("base_msr", 64),
        Field("irr", 256),
        Field("isr", 256),
        Field("tmr", 256),
        Field("tpr", 8),
        Field("ldr", 32),
        Field("dfr", 32),
        Field("svr", 16),
        Field("esr", 8),
        Field("errors", 8),
        Field("icr_low", 32),
        Field("icr_high", 32),
        Field("lvt", 32, count=7),
        Field("lint", 1, count=2),
    )

    def __init__(
        self,
        index: int,
        bus: ApicBus,
        clock: MachineClock,
        tsc_hz: Callable[[], int],
        tsc_offset: Callable[[], int],
        moved: Callable[[], None] = lambda: None,
        phys_bits: int = 40,
    ) -> None:
        self.index = index
        self._bus = bus
        self._moved = moved
        self._base_reserved = ~((1 << phys_bits) - 1) | 0x2FF
        self.timer = LapicTimer(clock, index, lambda: self.fire_lvt(TIMER), tsc_hz, tsc_offset)
        self.lint = [0, 0]  # input levels
        self.lvt = [0] * 7
        self.base_msr = LAPIC_BASE | BASE_ENABLE | (BASE_BSP if index == 0 else 0)
        self._reset_registers()
        bus.attach(self)

    # --- Reset and mode ---------------------------------------------------------------------------

    def reset(self) -> None:
        """Power-on: xAPIC mode at the architectural base, software-disabled, everything masked."""
        self.base_msr = LAPIC_BASE | BASE_ENABLE | (BASE_BSP if self.index == 0 else 0)
        self._reset_registers()
        self._moved()
        self.changed()

    def init(self) -> None:
        """INIT: as `reset`, but IA32_APIC_BASE keeps its value."""
        self._reset_registers()
        self.changed()

    def _reset_registers(self) -> None:
        self.irr = self.isr = self.tmr = 0
        self.tpr = 0
        self.ldr = 0
        self.dfr = 0xFFFF_FFFF
        self.svr = 0xFF
        self.esr = self.errors = 0
        self.icr_low = self.icr_high = 0
        self.lvt[:] = [LVT_MASKED] * 7
        self.timer.reset()

    def enter_virtual_wire(self) -> None:
        """What PC firmware leaves on the BSP: enabled, LINT0 = ExtINT, LINT1 = NMI.

        Source: MultiProcessor Specification 1.4, "Virtual Wire Mode".
        """
        self.svr = SVR_ENABLE | 0x0F
        self.lvt[LINT0] = Delivery.EXTINT << 8
        self.lvt[LINT1] = Delivery.NMI << 8
        self.changed()

    @property
    def enabled(self) -> bool:
        """Enabled in IA32_APIC_BASE."""
        return bool(self.base_msr & BASE_ENABLE)

    @property
    def x2apic(self) -> bool:
        """In x2APIC mode."""
        return bool(self.base_msr & BASE_X2APIC)

    @property
    def software_enabled(self) -> bool:
        """Enabled in the spurious-interrupt vector register."""
        return bool(self.svr & SVR_ENABLE)

    @property
    def mmio_base(self) -> int | None:
        """Guest-physical address of the xAPIC page, or None when there is none."""
        if self.base_msr & (BASE_ENABLE | BASE_X2APIC) != BASE_ENABLE:
            return None
        return self.base_msr & ~0xFFF

    def write_base(self, value: int) -> bool:
        """WRMSR to IA32_APIC_BASE; False stands for #GP.

        Refused: reserved bits, x2APIC without enable, x2APIC to xAPIC, disabled to x2APIC (SDM,
        "x2APIC State Transitions"). Disabling resets the registers.
        """
        old, new = self.base_msr >> 10 & 3, value >> 10 & 3
        if value & self._base_reserved or new == 1 or (old == 3 and new == 2) or (old == 0 and new == 3):
            return False
        self.base_msr = value
        if new != old:
            if new == 3:
                self.icr_high = 0
                self.ldr = 0  # derived from the ID in this mode
            else:
                self._reset_registers()
        self._moved()
        self.changed()
        return True

    # --- Interrupts to the processor --------------------------------------------------------------

    def changed(self) -> None:
        """For the register views: what may be delivered may be something else now."""
        self._bus.hooks.on_change(self.index)

    @property
    def ppr(self) -> int:
        """Processor priority: the task priority or the class in service, whichever is higher."""
        in_service = self.isr.bit_length() - 1 & 0xF0 if self.isr else 0
        return self.tpr if self.tpr & 0xF0 >= in_service else in_service

    def set_tpr(self, value: int) -> None:
        """Set the task priority (8 bits; a CR8 write passes `cr8 << 4`)."""
        if value != self.tpr:
            self.tpr = value
            self.changed()

    def pending_vector(self) -> int | None:
        """The vector to inject now, or None: highest in IRR, of a higher class than PPR."""
        if not self.irr:
            return None
        vector = self.irr.bit_length() - 1
        return vector if vector >> 4 > self.ppr >> 4 and self.enabled else None

    def tpr_threshold(self) -> int:
        """The class that CR8 must fall below for the highest requested vector to be deliverable.

        0 when lowering CR8 would deliver nothing: nothing requested, deliverable already, or blocked
        by a vector in service.
        """
        wanted = self.irr.bit_length() - 1 >> 4 if self.irr else 0
        in_service = self.isr.bit_length() - 1 >> 4 if self.isr else 0
        return wanted if in_service < wanted <= self.tpr >> 4 else 0

    def accept(self, vector: int) -> None:
        """The processor takes `vector` at this moment: IRR to ISR."""
        bit = 1 << vector
        self.irr &= ~bit
        self.isr |= bit
        self.changed()

    def eoi(self) -> None:
        """End of interrupt: the highest vector leaves service; a level-triggered one is broadcast."""
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        self.isr &= ~(1 << vector)
        if self.tmr >> vector & 1:
            self._end_local_level(vector)
            if not self.svr & SVR_NO_EOI_BROADCAST:
                self._bus.eoi(vector)
        self.changed()

    @property
    def extint(self) -> bool:
        """Whether an ExtINT request is at the processor: to be acknowledged at the 8259 pair."""
        if not self.lint[0]:
            return False
        return not self.enabled or self.lvt[LINT0] & (LVT_MASKED | 0x700) == Delivery.EXTINT << 8

    # --- Interrupts from lines, table entries and the bus -------------------------------------------

    def set_lint(self, pin: int, level: bool) -> None:
        """Drive LINT0 or LINT1. A disabled APIC passes LINT1 on as NMI."""
        rising = level and not self.lint[pin]
        self.lint[pin] = int(level)
        if not self.enabled:
            if rising and pin == 1:
                self._bus.hooks.on_nmi(self.index)
        elif rising:
            self.fire_lvt(LINT0 + pin)
        self.changed()

    def fire_lvt(self, entry: int) -> None:
        """An event of local vector table entry `entry` (an index such as `CMCI`), unless masked."""
        lvt = self.lvt[entry]
        if lvt & LVT_MASKED or not self.enabled:
            return
        mode = Delivery.FIXED if entry in (TIMER, ERROR) else lvt >> 8 & 7
        if entry == PERFORMANCE:
            self.lvt[entry] |= LVT_MASKED
        if mode == Delivery.FIXED:
            level = entry in (LINT0, LINT1) and bool(lvt & LVT_LEVEL)
            if level:
                self.lvt[entry] |= LVT_REMOTE_IRR
            self.receive(mode, lvt & 0xFF, level)
        elif mode == Delivery.NMI:
            self._bus.hooks.on_nmi(self.index)
        elif mode == Delivery.INIT:
            self.receive(mode, 0, False)

    def _end_local_level(self, vector: int) -> None:
        """A level-triggered LINT entry is served: request again while its input is high."""
        for pin in (0, 1):
            lvt = self.lvt[LINT0 + pin]
            if lvt & LVT_REMOTE_IRR and lvt & 0xFF == vector:
                self.lvt[LINT0 + pin] = lvt & ~LVT_REMOTE_IRR
                if self.lint[pin]:
                    self.fire_lvt(LINT0 + pin)

    def matches(self, message: Message) -> bool:
        """Whether `message.destination` names this APIC, physically or logically."""
        wanted = message.destination
        if not message.logical:
            return wanted == self.index
        if self.x2apic:
            return wanted >> 16 == self.index >> 4 and bool(wanted >> (self.index & 15) & 1)
        mine = self.ldr >> 24
        if wanted > 0xFF:
            return False
        if self.dfr >> 28 == 0xF:
            return bool(wanted & mine)
        return wanted >> 4 == mine >> 4 and bool(wanted & mine & 0xF)

    def receive(self, mode: int, vector: int, level: bool) -> None:
        """Take a message from the bus or from a local source."""
        if mode in (Delivery.FIXED, Delivery.LOWEST):
            self._request(vector, level)
        elif mode == Delivery.NMI:
            self._bus.hooks.on_nmi(self.index)
        elif mode == Delivery.INIT:
            self.init()
            self._bus.hooks.on_init(self.index)
        elif mode == Delivery.STARTUP:
            self._bus.hooks.on_sipi(self.index, vector)

    def _request(self, vector: int, level: bool) -> None:
        if vector < 16:
            self.error(ESR_RECEIVE_ILLEGAL)
        elif self.svr & SVR_ENABLE:
            bit = 1 << vector
            self.irr |= bit
            self.tmr = self.tmr | bit if level else self.tmr & ~bit
            self.changed()

    def error(self, bit: int) -> None:
        """Record an error; the error entry fires for a new one, and never for its own vector's error."""
        if self.errors & bit:
            return
        self.errors |= bit
        lvt = self.lvt[ERROR]
        if lvt & LVT_MASKED or lvt & 0xFF < 16:
            return
        self._request(lvt & 0xFF, False)

    def send(self, low: int, destination: int, wide: bool) -> None:
        """Issue the interprocessor interrupt of an ICR write.

        With a shorthand that includes the sender only fixed mode is valid; others are dropped. So is
        an INIT level de-assert, which later processors do not have.
        """
        mode, vector, shorthand = low >> 8 & 7, low & 0xFF, low >> 18 & 3
        if mode in (Delivery.FIXED, Delivery.LOWEST) and vector < 16:
            self.error(ESR_SEND_ILLEGAL)
            return
        if mode == Delivery.INIT and low & (ICR_LEVEL | ICR_ASSERT) == ICR_LEVEL:
            return
        message = Message(mode, vector, destination, bool(low & ICR_LOGICAL), False, wide)
        if shorthand == 0:
            self._bus.deliver(message)
        elif shorthand == 3:
            self._bus.deliver_all(message, but=self)
        elif mode == Delivery.FIXED:
            if shorthand == 1:
                self._request(vector, False)
            else:
                self._bus.deliver_all(message)

    # --- State --------------------------------------------------------------------------------------

    def save(self) -> State:
        """Registers and timer."""
        return save_fields(self, self._fields) | {"timer": self.timer.save()}

    def load(self, state: Mapping[str, Value]) -> None:
        """Restore registers and timer. Only `moved` is called: no interrupt, no edge."""
        check_header(self, state)
        timer = child(self.kind, state, "timer")
        load_fields(self, self._fields, state)
        self.timer.load(timer)
        self._moved()

"""The pair of 8259A programmable interrupt controllers of a PC, cascaded through IR2.

Source: Intel 8259A datasheet (order number 231468), "Interrupt Sequence", "Initialization Command
Words", "Operation Command Words"; edge/level control (ELCR, ports 4D0 and 4D1) from the 82371SB
(PIIX3) datasheet, "Interrupt Controller Registers". As on that chip ICW1.LTIM is ignored in favour
of the ELCR, and IRQ 0, 1, 2, 8 and 13 are always edge-triggered.

A request is a latch that the rising edge of its input sets. It goes away when the input falls
before the acknowledge ("the IR inputs must remain high until after the falling edge of the first
INTA"), and otherwise at the acknowledge, or, on a level input, only when the input falls.

The pair has no bus inside: `master`, `slave` and `elcr` are the register files for ports 20h, A0h
and 4D0h, `set_irq` is the input side, `on_output` is told the level of the master's INT pin, and
`ack` is the processor's INTA sequence.
"""

from collections.abc import Callable, Mapping
from typing import Final

from hv.device import Field, FieldDevice, State, Value, check_header, child, header

CASCADE: Final = 2  # the master input that the slave's INT is wired to
SPURIOUS: Final = 7
ELCR_WRITABLE: Final = (0b1111_1000, 0b1101_1110)  # IRQ 3-7; IRQ 9-12, 14, 15

ICW1: Final = 1 << 4
ICW1_IC4: Final = 1 << 0
ICW1_SNGL: Final = 1 << 1
ICW4_AEOI: Final = 1 << 1
ICW4_SFNM: Final = 1 << 4
OCW3: Final = 1 << 3
OCW3_RIS: Final = 1 << 0
OCW3_RR: Final = 1 << 1
OCW3_POLL: Final = 1 << 2
OCW3_SMM: Final = 1 << 5
OCW3_ESMM: Final = 1 << 6
POLL_INT: Final = 1 << 7


class Pic8259(FieldDevice):
    """One 8259A: registers at offset 0 (A0=0) and 1 (A0=1), eight inputs, one output.

    `changed` is called after a register access that may have changed `output`, `acknowledged` at each
    INTA or poll: INT falls with it, so that the next request is a new edge for whoever it is wired to.
    """

    kind = "pic8259"
    version = 1
    fields = (
        Field("irr", 8),
        Field("isr", 8),
        Field("imr", 8),
        Field("lines", 8),
        Field("elcr", 8),
        Field("vector_base", 8),
        Field("lowest", 3),
        Field("expect", 3),
        Field("single", None),
        Field("wants_icw4", None),
        Field("auto_eoi", None),
        Field("nested", None),
        Field("rotate_auto", None),
        Field("special_mask", None),
        Field("read_isr", None),
        Field("poll", None),
    )

    def __init__(
        self, changed: Callable[[], None], acknowledged: Callable[[], None], is_master: bool
    ) -> None:
        self._changed = changed
        self._acknowledged = acknowledged
        self._is_master = is_master
        self.lines = 0  # input levels
        self.elcr = 0
        self.reset()

    def reset(self) -> None:
        """Power-on: everything masked and not initialised. Input levels stay; they belong to the drivers."""
        self.elcr = 0
        self.imr = 0xFF
        self.vector_base = 0
        self._initialise()
        self.imr = 0xFF
        self.expect = 0
        self.single = self.wants_icw4 = False

    def _initialise(self) -> None:
        """What ICW1 does by itself (datasheet, "Initialization Command Words 1 and 2")."""
        self.irr = self.lines & self.elcr
        self.isr = self.imr = 0
        self.lowest = 7
        self.auto_eoi = self.nested = self.rotate_auto = False
        self.special_mask = self.read_isr = self.poll = False

    def drive(self, pin: int, level: bool) -> None:
        """Put input `pin` (0-7) at `level`; `changed` is not called."""
        bit = 1 << pin
        if level:
            if not self.lines & bit:
                self.lines |= bit
                self.irr |= bit
        else:
            self.lines &= ~bit
            self.irr &= ~bit

    def set_elcr(self, value: int) -> None:
        """Make the inputs whose bit is set level-triggered."""
        self.elcr = value
        self.irr = (self.irr & ~value) | (self.lines & value)
        self._changed()

    def _highest(self, mask: int) -> int:
        """The pin in `mask` (not 0) that has the highest priority now."""
        first = (self.lowest + 1) & 7
        turned = mask >> first | mask << (8 - first) & 0xFF
        return (turned & -turned).bit_length() - 1 + first & 7

    def _rank(self, pin: int) -> int:
        return pin - self.lowest - 1 & 7

    def winner(self) -> int | None:
        """The pin that would be acknowledged now, or None; INT is high when it is not None."""
        wanted = self.irr & ~self.imr
        if not wanted:
            return None
        pin = self._highest(wanted)
        blocking = self.isr & ~self.imr if self.special_mask else self.isr
        if self.nested and self._is_master:
            blocking &= ~(1 << CASCADE)
        if blocking and self._rank(self._highest(blocking)) <= self._rank(pin):
            return None
        return pin

    @property
    def output(self) -> bool:
        """Level of the INT pin."""
        return self.winner() is not None

    def ack(self) -> int | None:
        """The first INTA: move the winning request into service. None when there is none (spurious)."""
        pin = self.winner()
        if pin is None:
            return None
        bit = 1 << pin
        self.irr &= ~bit | self.elcr
        if self.auto_eoi:
            if self.rotate_auto:
                self.lowest = pin
        else:
            self.isr |= bit
        self._acknowledged()
        return pin

    def read(self, offset: int, size: int) -> int:
        """IRR, ISR or poll word at offset 0; IMR at 1."""
        if self.poll:
            self.poll = False
            pin = self.ack()
            self._changed()
            return 0 if pin is None else POLL_INT | pin
        if offset == 1:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, offset: int, size: int, value: int) -> None:
        """ICW1, OCW2, OCW3 at offset 0; the other initialisation words and OCW1 at 1."""
        if offset == 0:
            if value & ICW1:
                self._initialise()
                self.single = bool(value & ICW1_SNGL)
                self.wants_icw4 = bool(value & ICW1_IC4)
                self.expect = 2
            elif value & OCW3:
                self._ocw3(value)
            else:
                self._ocw2(value >> 5, value & 7)
        elif self.expect == 0:
            self.imr = value
        else:
            self._icw(value)
        self._changed()

    def _icw(self, value: int) -> None:
        if self.expect == 2:
            self.vector_base = value & 0xF8
            self.expect = 3 if not self.single else 4 if self.wants_icw4 else 0
        elif self.expect == 3:
            self.expect = 4 if self.wants_icw4 else 0  # the wiring of the cascade is fixed
        else:
            self.auto_eoi = bool(value & ICW4_AEOI)
            self.nested = bool(value & ICW4_SFNM)
            self.expect = 0

    def _ocw3(self, value: int) -> None:
        if value & OCW3_ESMM:
            self.special_mask = bool(value & OCW3_SMM)
        if value & OCW3_POLL:
            self.poll = True
        elif value & OCW3_RR:
            self.read_isr = bool(value & OCW3_RIS)

    def _ocw2(self, command: int, pin: int) -> None:
        """Rotate (bit 2), specific level (bit 1) and EOI (bit 0) in the datasheet's combinations."""
        if command in (0b000, 0b100):
            self.rotate_auto = command == 0b100
        elif command == 0b110:
            self.lowest = pin
        elif command & 0b001:
            if not command & 0b010:
                in_service = self.isr & ~self.imr if self.special_mask else self.isr
                if not in_service:
                    return
                pin = self._highest(in_service)
            self.isr &= ~(1 << pin)
            if command & 0b100:
                self.lowest = pin


class Elcr:
    """Ports 4D0h and 4D1h: one trigger-mode bit per IRQ."""

    def __init__(self, chips: tuple[Pic8259, Pic8259]) -> None:
        self._chips = chips

    def read(self, offset: int, size: int) -> int:
        """The trigger-mode bits of one chip."""
        return self._chips[offset].elcr

    def write(self, offset: int, size: int, value: int) -> None:
        """Set them; bits of inputs that must be edge-triggered stay 0."""
        self._chips[offset].set_elcr(value & ELCR_WRITABLE[offset])


class Pic8259Pair:
    """IRQ 0-15 of a PC. `on_output(level)` is called when the master's INT pin changes."""

    kind: Final = "pic8259-pair"
    version: Final = 1

    def __init__(self, on_output: Callable[[bool], None]) -> None:
        self._on_output = on_output
        self.output = False  # level of the master's INT pin
        self.master = Pic8259(self._update, lambda: None, is_master=True)
        self.slave = Pic8259(self._update, self._slave_acknowledged, is_master=False)
        self.elcr = Elcr((self.master, self.slave))

    def reset(self) -> None:
        """Power-on state of both chips; INT goes low."""
        self.master.reset()
        self.slave.reset()
        self._update()

    def set_irq(self, irq: int, level: bool) -> None:
        """Drive ISA IRQ `irq` (0-15, without 2, which is the cascade) to `level`."""
        if irq < 8:
            self.master.drive(irq, level)
        else:
            self.slave.drive(irq - 8, level)
        self._update()

    def ack(self) -> int:
        """The INTA sequence: the vector the pair puts on the bus, as of this moment.

        With no request left it is the spurious vector of the master (IRQ 7) or, when only the
        slave's request is gone, of the slave (IRQ 15); no in-service bit is set for it there.
        """
        pin = self.master.ack()
        if pin is None:
            vector = self.master.vector_base | SPURIOUS
        elif pin != CASCADE:
            vector = self.master.vector_base | pin
        else:
            slave_pin = self.slave.ack()
            vector = self.slave.vector_base | (SPURIOUS if slave_pin is None else slave_pin)
        self._update()
        return vector

    def _slave_acknowledged(self) -> None:
        self.master.drive(CASCADE, False)

    def _update(self) -> None:
        """Carry the slave's INT to the master's IR2 and the master's INT to the processor."""
        self.master.drive(CASCADE, self.slave.output)
        output = self.master.output
        if output != self.output:
            self.output = output
            self._on_output(output)

    def save(self) -> State:
        """Both chips."""
        return header(self) | {"master": self.master.save(), "slave": self.slave.save()}

    def load(self, state: Mapping[str, Value]) -> None:
        """Restore both chips; `on_output` is not called."""
        check_header(self, state)
        self.master.load(child(self.kind, state, "master"))
        self.slave.load(child(self.kind, state, "slave"))
        self.output = self.master.output

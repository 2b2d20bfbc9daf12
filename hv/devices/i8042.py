"""The i8042 keyboard controller with a keyboard, and no mouse.

Source: IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
Controller"; keyboard commands from the same manual's "Keyboard" section.

Everything answers at once. The auxiliary port is absent: its interface test reports a stuck clock, and the
loop-back command returns its byte as a keyboard byte, which lets a driver conclude so without waiting
for a timeout. Scan codes are passed through untranslated: `receive` takes what the host wants the guest to
read.
"""

from collections.abc import Callable
from typing import Final

from hv.device import Field, FieldDevice
from hv.irq.line import LineDriver

DATA_PORT: Final = 0  # offset of port 60h
COMMAND_PORT: Final = 1  # port 64h
QUEUE_SIZE: Final = 64
KEY_QUEUE_SIZE: Final = 16  # the keyboard's own buffer

STATUS_OUTPUT_FULL: Final = 1 << 0
STATUS_SYSTEM: Final = 1 << 2
STATUS_COMMAND: Final = 1 << 3
STATUS_UNLOCKED: Final = 1 << 4
CONFIG_KEYBOARD_IRQ: Final = 1 << 0
CONFIG_SYSTEM: Final = 1 << 2
CONFIG_KEYBOARD_OFF: Final = 1 << 4
CONFIG_AUX_OFF: Final = 1 << 5
OUTPUT_RESET_N: Final = 1 << 0
OUTPUT_A20: Final = 1 << 1
AUX_CLOCK_LOW: Final = 0x01  # result of the auxiliary interface test

ACK: Final = 0xFA
RESEND: Final = 0xFE

READ_CONFIG, READ_CONFIG_END = 0x20, 0x40
WRITE_CONFIG: Final = 0x60
AUX_DISABLE, AUX_ENABLE, AUX_TEST = 0xA7, 0xA8, 0xA9
SELF_TEST, KEYBOARD_TEST, KEYBOARD_DISABLE, KEYBOARD_ENABLE = 0xAA, 0xAB, 0xAD, 0xAE
READ_INPUT, READ_OUTPUT, WRITE_OUTPUT = 0xC0, 0xD0, 0xD1
WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER, WRITE_AUX = 0xD2, 0xD3, 0xD4
PULSE_OUTPUT: Final = 0xF0  # F0h-FFh; FEh pulses the reset line
TAKE_DATA: Final = frozenset({WRITE_CONFIG, WRITE_OUTPUT, WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER, WRITE_AUX})
REPLIES: Final = {SELF_TEST: 0x55, KEYBOARD_TEST: 0x00, AUX_TEST: AUX_CLOCK_LOW, READ_INPUT: 0x80}
# Echo; identify; enable; disable and set defaults; reset with its self test; make codes of set 3.
KEYBOARD_REPLIES: Final = {
    0xEE: b"\xee",
    0xF2: b"\xfa\xab\x83",
    0xF4: b"\xfa",
    0xF5: b"\xfa",
    0xF6: b"\xfa",
    0xF7: b"\xfa",
    0xF8: b"\xfa",
    0xF9: b"\xfa",
    0xFA: b"\xfa",
    0xFF: b"\xfa\xaa",
}
# Keyboard commands that are followed by a parameter byte: LEDs, scan code set, repeat rate.
KEYBOARD_TAKES_DATA: Final = frozenset({0xED, 0xF0, 0xF3})


class I8042(FieldDevice):
    """Offsets 0 and 1 are ports 60h and 64h.

    `irq` is IRQ 1; `reset` is called when the guest pulses the processor's reset line, `a20` with the
    level of the controller's A20 output when it changes.
    """

    kind = "i8042"
    version = 1
    fields = (
        Field("config", 8),
        Field("output", 8),
        Field("expects", 8),
        Field("last_command", None),
        Field("keyboard_expects", 8),
        Field("scanning", None),
        Field("scan_set", 2),
        Field("replies", 8, most=QUEUE_SIZE),
        Field("keys", 8, most=QUEUE_SIZE),
        Field("last_byte", 8),
    )

    def __init__(self, irq: LineDriver, reset: Callable[[], None], a20: Callable[[bool], None]) -> None:
        self._irq = irq
        self._reset = reset
        self._a20 = a20
        self.output = OUTPUT_RESET_N | OUTPUT_A20
        self.replies = bytearray()  # from the controller
        self.keys = bytearray()  # from the keyboard; held back while its clock is off
        self.reset()

    def reset(self) -> None:
        """As PC firmware leaves it: tested, keyboard scanning, no interrupts, A20 on."""
        self.config = CONFIG_SYSTEM | CONFIG_AUX_OFF
        self._write_output(OUTPUT_RESET_N | OUTPUT_A20)
        self.expects = 0  # the command that waits for a data byte
        self.last_command = False  # whether the last write was to port 64h
        self.keyboard_expects = 0
        self.scanning = True
        self.scan_set = 2
        self.replies.clear()
        self.keys.clear()
        self.last_byte = 0  # what port 60h reads when nothing is there
        self._update()

    def restored(self) -> None:
        """IRQ 1 follows the output buffer."""
        self._irq.restore(self._irq_level())

    def receive(self, codes: bytes) -> bool:
        """Scan codes from the keyboard; False when its buffer is full or it is switched off."""
        if not self.scanning or len(self.keys) + len(codes) > KEY_QUEUE_SIZE:
            return False
        self._say(codes)
        return True

    @property
    def a20(self) -> bool:
        """Level of the A20 output."""
        return bool(self.output & OUTPUT_A20)

    def read(self, offset: int, size: int) -> int:
        """Port 60h: the next byte, or the last one again. Port 64h: status."""
        if offset == DATA_PORT:
            if self._full():
                self.last_byte = (self.replies or self.keys).pop(0)
                self._irq.set(False)  # the next byte, if any, is a new edge
                self._update()
            return self.last_byte
        return (
            (STATUS_OUTPUT_FULL if self._full() else 0)
            | (STATUS_SYSTEM if self.config & CONFIG_SYSTEM else 0)
            | (STATUS_COMMAND if self.last_command else 0)
            | STATUS_UNLOCKED
        )

    def write(self, offset: int, size: int, value: int) -> None:
        """Port 64h: a controller command. Port 60h: its data, or a byte for the keyboard."""
        self.last_command = offset == COMMAND_PORT
        if offset == COMMAND_PORT:
            self._command(value)
        elif self.expects:
            command, self.expects = self.expects, 0
            self._command_data(command, value)
        else:
            self.config &= ~CONFIG_KEYBOARD_OFF
            self._keyboard(value)

    def _full(self) -> bool:
        return bool(self.replies or (self.keys and not self.config & CONFIG_KEYBOARD_OFF))

    def _irq_level(self) -> bool:
        return self._full() and bool(self.config & CONFIG_KEYBOARD_IRQ)

    def _update(self) -> None:
        self._irq.set(self._irq_level())

    def _reply(self, value: int) -> None:
        """A byte from the controller; one that finds no room is dropped."""
        if len(self.replies) < QUEUE_SIZE:
            self.replies.append(value)
        self._update()

    def _say(self, data: bytes) -> None:
        """Bytes from the keyboard; what finds no room is dropped."""
        self.keys += data[: QUEUE_SIZE - len(self.keys)]
        self._update()

    # --- The controller -----------------------------------------------------------------------------

    def _command(self, value: int) -> None:
        self.expects = value if value in TAKE_DATA else 0
        if READ_CONFIG <= value < READ_CONFIG_END:
            self._reply(self.config)  # 20h; 21h-3Fh read internal RAM, which holds nothing else here
        elif value in (AUX_DISABLE, AUX_ENABLE):
            self._set_config(self.config & ~CONFIG_AUX_OFF | (CONFIG_AUX_OFF if value == AUX_DISABLE else 0))
        elif value in (KEYBOARD_DISABLE, KEYBOARD_ENABLE):
            off = CONFIG_KEYBOARD_OFF if value == KEYBOARD_DISABLE else 0
            self._set_config(self.config & ~CONFIG_KEYBOARD_OFF | off)
        elif value in REPLIES:
            self._reply(REPLIES[value])
        elif value == READ_OUTPUT:
            self._reply(self.output)
        elif value >= PULSE_OUTPUT and not value & OUTPUT_RESET_N:
            self._reset()

    def _command_data(self, command: int, value: int) -> None:
        if command == WRITE_CONFIG:
            self._set_config(value)
        elif command == WRITE_OUTPUT:
            self._write_output(value)
        elif command == WRITE_KEYBOARD_BUFFER:
            self._say(bytes((value,)))
        elif command == WRITE_AUX_BUFFER:
            self._reply(value)
        # Bytes for the auxiliary device (D4h) find nobody there.

    def _set_config(self, value: int) -> None:
        self.config = value
        self._update()

    def _write_output(self, value: int) -> None:
        before, self.output = self.output, value
        if (before ^ value) & OUTPUT_A20:
            self._a20(self.a20)
        if not value & OUTPUT_RESET_N:
            self.output |= OUTPUT_RESET_N
            self._reset()

    # --- The keyboard -------------------------------------------------------------------------------

    def _keyboard(self, value: int) -> None:
        """A byte that the keyboard receives: a command, or the parameter of the one before."""
        command, self.keyboard_expects = self.keyboard_expects, 0
        if command and value < 0xED:
            self._keyboard_parameter(command, value)
            return
        if value in KEYBOARD_TAKES_DATA:
            self.keyboard_expects = value
            self._say(bytes((ACK,)))
        elif value in KEYBOARD_REPLIES:
            if value in (0xF5, 0xF6, 0xFF):
                self.keys.clear()
                self.scan_set = 2
            if value in (0xF4, 0xF5, 0xF6, 0xFF):
                self.scanning = value != 0xF5
            self._say(KEYBOARD_REPLIES[value])
        else:
            self._say(bytes((RESEND,)))

    def _keyboard_parameter(self, command: int, value: int) -> None:
        self._say(bytes((ACK,)))
        if command != 0xF0:
            return
        if value == 0:
            self._say(bytes((self.scan_set,)))
        elif value <= 3:
            self.scan_set = value

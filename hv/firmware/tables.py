"""Everything that firmware would have left in memory, in one list for the machine to write at reset."""

import struct
from typing import Final

from hv.firmware.acpi import AcpiConfig, build_tables
from hv.firmware.mptable import build_mptable
from hv.machines import layout

BDA_GPA: Final = 0x400


def bios_data_area() -> bytes:
    """The first 21 bytes of the BIOS data area at 400h: what operating systems still look at.

    COM1-COM4 and LPT1-LPT3 ports, the EBDA segment (40Eh), the equipment word (410h) and the base
    memory size in KiB (413h). Source: IBM PC/AT Technical Reference, "BIOS data area".
    """
    equipment = 2 << 9 | 1 << 1  # two serial ports, x87
    return struct.pack(
        "<4H3HHHBH",
        *(layout.PORT_COM1, layout.PORT_COM2, 0, 0),
        *(0, 0, 0),
        layout.EBDA_BASE >> 4,
        equipment,
        0,
        layout.EBDA_BASE >> 10,
    )


def firmware_chunks(vcpus: int) -> list[tuple[int, bytes]]:
    """BIOS data area, EBDA size byte, ACPI and MP tables as `(guest physical address, bytes)`.

    The addresses lie in RAM below `EBDA_BASE` + 1 KiB and in the BIOS area, which the machine must
    back with memory. Raises `ConfigError` for an impossible number of vCPUs.
    """
    return [
        (BDA_GPA, bios_data_area()),
        (layout.EBDA_BASE, b"\x01"),  # size of the EBDA in KiB
        *build_tables(AcpiConfig(vcpus)),
        *build_mptable(vcpus),
    ]

"""Interrupt lines and controllers: 8259 pair, I/O APIC, local APICs, PCI interrupt router."""

"""What a PC's firmware leaves in memory for the operating system: memory map and system tables.

There is no firmware code: the loaders start the guest directly, and the modules here only build
bytes. `hv.firmware.tables.firmware_chunks` gives everything that has to be written before a boot.
"""

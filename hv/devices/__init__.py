"""Devices as pure register machines: no bus, no memory, no host time inside."""

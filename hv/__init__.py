"""The board and the machine monitor of a debug-first x86-64 hypervisor.

Memory, buses, devices, interrupt controllers, time, scheduling of virtual CPUs, run control, image
loaders and the command line live here. Instructions are executed by `accel`; the GDB remote
protocol is spoken by `gdbstub`.
"""

"""Debugging a machine: run control, breakpoints, commands, and the target that the debug server talks to."""

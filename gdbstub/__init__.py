"""A debug server, and a client, for the GDB Remote Serial Protocol."""

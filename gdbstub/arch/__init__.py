"""Register tables of the architectures that the debug server describes."""

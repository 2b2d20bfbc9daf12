"""Execution engines: what runs guest instructions, behind one Protocol (`hv.engines.base`)."""

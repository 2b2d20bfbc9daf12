"""Addresses of the debug server as the user writes them."""

from __future__ import annotations

from typing import TypeAlias

from gdbstub.addresses import Address, AddressError, StdioAddress, parse_address
from hv.errors import ConfigError

ServerAddress: TypeAlias = Address


def parse_server(text: str) -> ServerAddress:
    """The address of `--gdb`. `ConfigError`."""
    try:
        return parse_address(text)
    except AddressError as error:
        raise ConfigError(str(error), "--gdb") from None


def uses_stdio(address: ServerAddress | None) -> bool:
    """Whether the debug server takes standard input and output for itself."""
    return isinstance(address, StdioAddress)

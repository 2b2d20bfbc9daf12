"""PCI: configuration mechanism #1, the root bus and its fixed functions."""

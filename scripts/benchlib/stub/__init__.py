"""The debug server beside QEMU's and a bare trio echo: see `scripts.benchlib.stub.cases`."""

"""The tables of `info os`: rows from the machine as it stands."""

from gdbstub.capabilities import Capabilities, Table
from tests.helpers.bare_target import CODE, machine


async def test_every_table_that_is_listed_has_rows_as_long_as_its_columns() -> None:
    with machine() as m:
        target = m.target()
        assert Capabilities.of(target).system_tables is not None
        names = [name for name, _ in await target.tables()]
        assert names == ["vcpus", "devices", "irqs", "memory", "exits"]
        for name in names:
            table = await target.table(name)
            assert isinstance(table, Table)
            assert all(len(row) == len(table.columns) for row in table.rows)
        assert await target.table("processes") is None


async def test_vcpus_and_memory() -> None:
    with machine() as m:
        target = m.target()
        vcpus = await target.table("vcpus")
        assert vcpus is not None
        assert vcpus.rows == (
            ("0", "running", f"{CODE:#x}", "0", "0x0", "0"),
            ("1", "waits for a startup IPI", "0xfffffff0", "0", "0x0", "0"),
        )
        memory = await target.table("memory")
        assert memory is not None
        assert memory.rows[0] == ("0x0", "0x9fbff", "RAM")
        devices = await target.table("devices")
        assert devices is not None
        assert ("debug-exit", "port", "0xf4", "0xf7") in devices.rows

import pytest

from hv.firmware import aml


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (2, "0a02"),
        (0xFF, "0aff"),
        (0x100, "0b0001"),
        (0xFFFF, "0bffff"),
        (0x10000, "0c00000100"),
        (1 << 32, "0e0000000001000000"),
    ],
)
def test_integers_take_their_shortest_form(value: int, encoded: str) -> None:
    assert aml.integer(value).hex() == encoded


def test_integers_that_do_not_fit_are_refused() -> None:
    for value in (-1, 1 << 64):
        with pytest.raises(ValueError, match="does not fit"):
            aml.integer(value)


@pytest.mark.parametrize(
    ("content", "encoded"),
    [(0, "01"), (62, "3f"), (63, "4104"), (0xFFD, "4fff"), (0xFFE, "810001"), (0xFFFFC, "8fffff")],
)
def test_package_length_counts_itself(content: int, encoded: str) -> None:
    assert aml.pkg_length(content).hex() == encoded


def test_names_are_padded_and_prefixed() -> None:
    assert aml.name_string("_CRS") == b"_CRS"
    assert aml.name_string("\\_SB") == b"\\_SB_"
    assert aml.name_string("\\_SB.PCI0") == b"\\\x2e_SB_PCI0"
    assert aml.name_string("\\_SB.PCI0.KBD") == b"\\\x2f\x03_SB_PCI0KBD_"


@pytest.mark.parametrize("path", ["", "TOOLONG", "1ABC", "a", "_SB.", "X\\_SB"])
def test_bad_names_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not an AML name"):
        aml.name_string(path)


def test_eisa_ids_are_compressed() -> None:
    assert aml.eisa_id("PNP0A03").hex() == "0c41d00a03"
    with pytest.raises(ValueError, match="EISA"):
        aml.eisa_id("pnp0a03")


def test_resource_templates_end_with_an_end_tag() -> None:
    assert aml.resource_template(aml.irq_no_flags(4)).hex() == "11080a05" + "221000" + "7900"
    assert aml.io(0x3F8, 8).hex() == "4701f803f8030108"
    assert aml.memory32_fixed(0xFED00000, 0x400).hex() == "86090001" + "0000d0fe" + "00040000"

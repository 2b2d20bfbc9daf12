"""Arithmetic flags that an instruction leaves undefined, where our choice may differ from the host's.

SDM vol. 2, "Flags Affected" of each instruction. A flag that is not listed must be exact. Keys are mnemonics as in
`insns*.def`; values are letters of `LETTERS`.
"""

LETTERS = {"C": 0x1, "P": 0x4, "A": 0x10, "Z": 0x40, "S": 0x80, "O": 0x800}

UNDEFINED: dict[str, str] = {}


def mask(mnemonic: str) -> int:
    """The RFLAGS bits not to be compared after `mnemonic`."""
    return sum(LETTERS[letter] for letter in UNDEFINED.get(mnemonic, ""))

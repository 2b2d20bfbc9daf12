"""Where the core may differ from the host CPU, and why.

The manual leaves some results open; the core makes one choice, the host another. A flag or behaviour that is
not listed here must be exact. Keys are mnemonics as in `insns*.def`.
"""

# Arithmetic flags (SDM vol. 2, "Flags Affected" of each instruction) and x87 condition codes.
LETTERS = {
    "C": 0x1, "P": 0x4, "A": 0x10, "Z": 0x40, "S": 0x80, "O": 0x800,
    "0": 0x100 << 16, "1": 0x200 << 16, "2": 0x400 << 16, "3": 0x4000 << 16,
}  # fmt: skip

# Vendors differ in the last bit; ours are correctly rounded (test_x87_math.py).
FUNCTIONS = ("F2XM1", "FYL2X", "FYL2XP1", "FPATAN", "FPTAN", "FSIN", "FCOS", "FSINCOS")

UNDEFINED: dict[str, str] = {
    "SHL": "A", "SAL": "A", "SHR": "A", "SAR": "A", "SHLD": "A", "SHRD": "A",
    "DIV": "CPAZSO", "IDIV": "CPAZSO",
    "BEXTR": "PAS",
    "TZCNT": "O", "LZCNT": "O",
    "AAA": "PZSO", "AAS": "PZSO", "DAA": "O", "DAS": "O", "AAD": "CAO", "AAM": "CAO",
    **dict.fromkeys(FUNCTIONS, "1"),  # the direction of rounding: the last bit may differ
    "FCOMI": "1", "FUCOMI": "1", "FCOMIP": "1", "FUCOMIP": "1",  # the manual clears C1, AMD leaves it
}  # fmt: skip

(
    MASKED,
    PARTIAL,
    PAGE,
    ALIGNED,
    MMX,
    COUNT,
    MXCSR,
    ORDER,
    GATHER,
    EFLAGS,
    MISALIGNED,
    ULP,
    WIDER,
) = (1 << n for n in range(16, 29))
# The bits are TOL_* of native/oracle.h.
TOLERATED: dict[str, int] = {
    # A fault on a masked-off byte is up to the implementation (SDM vol. 2, MASKMOVDQU).
    "MASKMOVDQU": MASKED, "MASKMOVQ": MASKED | MMX, "VMASKMOVDQU": MASKED,
    "CMPXCHG16B": ALIGNED,
    **dict.fromkeys(FUNCTIONS, ULP),
    # With a 16-bit operand Intel's manual reads 16 bits; AMD reads 32, and meets their faults.
    "MOVSXD": WIDER,
    # With an unmasked invalid operation AMD sets the flags; the manual leaves them alone.
    "FCOMI": EFLAGS, "FCOMIP": EFLAGS, "FUCOMI": EFLAGS, "FUCOMIP": EFLAGS,
    # Which of two operands is read first (CR2 when both would fault): the host differs between CMPSB, CMPSW
    # and REP.
    "CMPS": ORDER, "MOVS": ORDER,
    # A target that is not canonical and a stack that cannot be written: the manual checks the target first.
    "CALL": ORDER,
    # AMD keeps what it pushed or popped before the fault; we keep nothing.
    "ENTER": PARTIAL, "POPA": PARTIAL | PAGE, "PUSHA": PARTIAL | PAGE,
    # Which byte of a save area is touched first is not defined; CR2 is compared by page.
    # Nor is the order of its faults when it wraps around the end of the segment.
    "FNSAVE": PAGE | ORDER, "FRSTOR": PAGE | ORDER, "FNSTENV": PAGE | ORDER, "FLDENV": PAGE | ORDER,
    "FXSAVE": PAGE, "FXRSTOR": PAGE | MXCSR, "XSAVE": PAGE, "XRSTOR": PAGE | MXCSR, "XSAVEC": PAGE,
    # The result is undefined when the count exceeds the operand size.
    "SHLD": COUNT, "SHRD": COUNT,
    # AMD has a bit of its own in MXCSR.
    "LDMXCSR": MXCSR, "VLDMXCSR": MXCSR,
    # Both manuals put them into the class that faults when misaligned; this host takes any address.
    "SHA1MSG1": MISALIGNED, "SHA1MSG2": MISALIGNED, "SHA1NEXTE": MISALIGNED, "SHA1RNDS4": MISALIGNED,
    "SHA256MSG1": MISALIGNED, "SHA256MSG2": MISALIGNED, "SHA256RNDS2": MISALIGNED,
    # AMD enters the MMX state before it raises #XM.
    "CVTPS2PI": MMX, "CVTTPS2PI": MMX, "CVTPD2PI": MMX, "CVTTPD2PI": MMX,
}  # fmt: skip

# Rows that are not executed on the host although their table says so.
NOT_EXECUTED = {
    "SYSCALL", "SYSENTER", "INT", "INT1", "INTO",  # they reach the kernel
    "UD0", "UD1",  # AMD raises #UD before it has fetched what follows the opcode; Intel fetches the operand
}  # fmt: skip


def mask(mnemonic: str) -> int:
    """What of RFLAGS (and << 16 of the x87 status word) is not to be compared after `mnemonic`."""
    return sum(LETTERS[letter] for letter in UNDEFINED.get(mnemonic, ""))


def tolerance(mnemonic: str, sse: bool) -> int:
    """The TOL_* bits of a row; `sse`: it uses XMM or YMM registers.

    The order of #GP (misaligned) and #SS (not canonical) is not defined; nor how much of a gather is done, or
    what its mask holds below the sign bits, when an element faults.
    """
    gather = GATHER if "GATHER" in mnemonic else 0
    return TOLERATED.get(mnemonic, 0) | (ALIGNED if sse else 0) | gather

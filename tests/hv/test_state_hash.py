"""State hashes that must never change: the same guest, the same tick, the same state, whoever built the core.

When a change of the machine changes them on purpose, the new values belong into the same commit, and the
version of whatever is saved differently goes up.
"""

import json
from pathlib import Path

import pytest

from hv.loaders import load_image
from hv.machines.pc import image_digest
from tests.helpers.law import Guest, run_to
from tests.helpers.sanitizers import run_sanitized

DEMO_TICK = 100_000_000
SECTOR_TICK = 5_000
# The guest's own bytes depend on the compiler: the hash is known for these builds of the demo guest.
DEMO = {
    "33b0321760ce9051a9c9b98272ddb15d42e0b6f4d5919133fcb5403b246f8849": (
        "85ff09f1319068ffc905fa0b2557874db9724344b8f203c6b695290570a3ff25"
    ),
}
BOOT_SECTOR = "933d17b19bf9ab3389dc34137b283d65a3ae08c31bf778a6445e37bd08ab0ddb"
SCRIPT = """
import json, sys
from pathlib import Path
from tests.helpers.law import Guest, run_to
runs = json.loads(sys.argv[1])
print(json.dumps([run_to(Guest(Path(image), vcpus=2).build()[0], tick) for image, tick in runs]))
"""


def state(image: Path, tick: int) -> str:
    """The state hash of a two-vCPU machine with `image` at `tick`."""
    vm, _ = Guest(image, vcpus=2).build()
    return run_to(vm, tick)


def test_the_demo_guest_reaches_the_known_state(demo_elf: Path) -> None:
    digest = image_digest(load_image(demo_elf, ram_size=256 << 20))
    if digest not in DEMO:
        got = state(demo_elf, DEMO_TICK)
        pytest.skip(f"another compiler built the demo guest: digest {digest}, hash {got}")
    assert state(demo_elf, DEMO_TICK) == DEMO[digest]


def test_the_boot_sector_reaches_the_known_state(bootsector: Path) -> None:
    assert state(bootsector, SECTOR_TICK) == BOOT_SECTOR


def test_the_sanitizer_build_reaches_the_same_states(demo_elf: Path, bootsector: Path) -> None:
    runs = [[str(demo_elf), DEMO_TICK], [str(bootsector), SECTOR_TICK]]
    done = run_sanitized("-c", SCRIPT, json.dumps(runs))
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout) == [state(demo_elf, DEMO_TICK), state(bootsector, SECTOR_TICK)]

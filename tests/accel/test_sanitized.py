"""The core under ASan and UBSan: the same states, and no finding in any core test."""

from pathlib import Path

from tests.helpers.sanitizers import run_sanitized

ROOT = Path(__file__).resolve().parents[2]
# Not under sanitizers: what starts processes of its own to judge, and this file.
LEFT_OUT = ("test_sanitized.py", "test_oracle.py", "test_decode.py")


def test_the_core_tests_pass_under_sanitizers() -> None:
    ignored = [f"--ignore=tests/accel/{name}" for name in LEFT_OUT]
    done = run_sanitized("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/accel", *ignored)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout

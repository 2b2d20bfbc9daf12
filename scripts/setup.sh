# Sourced by the scripts beside it: a virtual environment with the package in it, built in place.
# Everything is done once and again only when what it depends on has changed.
#
#   HV_VENV    the virtual environment, .venv by default
#   HV_CACHE   guest images for tests, .cache by default
#   HV_WERROR  1: compiler warnings are errors

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
VENV=${HV_VENV:-$ROOT/.venv}
PYTHON=$VENV/bin/python

say() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# Print the first Python that is new enough.
find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    return 1
}

# Run a command as root: directly, or through sudo when it asks nothing.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo && sudo -n true; } >/dev/null 2>&1
}

# install_packages PACKAGE...: by apt-get where that is possible, else say what is missing and end.
install_packages() {
    if ! command -v apt-get >/dev/null 2>&1 || ! can_be_root; then
        die "please install: $* (Debian and Ubuntu: apt-get install $*)"
    fi
    say "installing $*"
    {
        as_root apt-get update -qq >/dev/null &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    } || die "apt-get could not install: $*"
}

# need_commands COMMAND:PACKAGE...: install the packages whose commands are missing.
need_commands() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
    done
    # shellcheck disable=SC2086 # one word per package
    [ -z "$missing" ] || install_packages $missing
}

# A C compiler that finds the C library's headers; distributions package these apart.
need_compiler() {
    need_commands gcc:gcc
    printf '#include <stdio.h>\n' | gcc -E -x c - >/dev/null 2>&1 || install_packages libc6-dev
}

# Make the virtual environment when there is none; see to Python's own headers.
make_venv() {
    [ -x "$PYTHON" ] && return 0
    base=$(find_python) || die "Python 3.11 or newer is needed"
    "$base" -c 'import ensurepip' 2>/dev/null || install_packages "$base-venv"
    "$base" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || install_packages "$base-dev"
    "$base" -m venv "$VENV" || die "making the virtual environment $VENV failed"
}

# What an installation depends on, apart from sources that are used in place.
installation_key() {
    cat "$ROOT/pyproject.toml" "$ROOT"/scripts/packaging/*.py | cksum
    "$PYTHON" --version
    echo "$ROOT"
}

# install_package EXTRA: install in editable mode with the extra ("" or "dev", which includes "").
install_package() {
    stamp=$VENV/hv-installed${1:+-$1}
    key=$(installation_key)
    for finished in "$stamp" "$VENV/hv-installed-dev"; do
        [ "$(cat "$finished" 2>/dev/null)" = "$key" ] && return 0
    done
    say "installing into $VENV"
    rm -f "$VENV/hv-installed" "$VENV/hv-installed-dev"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$ROOT${1:+[$1]}" ||
        die "installing the package failed"
    printf '%s\n' "$key" >"$stamp"
}

# Compile what has changed in the core and in the demo guest.
build_in_place() {
    (cd "$ROOT" && "$PYTHON" scripts/packaging/parts.py >&2) || die "building failed"
}

# setup EXTRA: all of it.
setup() {
    need_compiler
    make_venv
    install_package "$1"
    build_in_place
}

# Sourced by the scripts in the folder above, which have gone there: `prepare LIST` sets $python to an
# environment's Python in which everything of that list is installed.

# Only trying it out tells: a command of that name may be a stand-in that starts nothing.
works() {
    "$1" -c "$2" >/dev/null 2>&1 </dev/null
}

find_python() {
    too_bare=
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        works "$candidate" 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
        if works "$candidate" 'import venv, ensurepip'; then
            python=$candidate
            return
        fi
        too_bare=${too_bare:-$candidate}
    done
    if [ -n "$too_bare" ]; then
        echo "$too_bare is here, but it cannot make environments: its modules venv and ensurepip are missing." >&2
        echo "On Debian or Ubuntu install them with: sudo apt install python3-venv" >&2
    else
        echo "Python 3.11 or newer is needed, and none was found. Get it from https://www.python.org/downloads/" >&2
    fi
    exit 1
}

prepare() {
    find_python
    python=$("$python" scripts/prepare.py "$1") || exit 1
}

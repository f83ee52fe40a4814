#!/bin/sh
# Runs all tests, on a fresh machine too: makes .venv, installs, then runs pytest.
# Arguments go on to pytest: ./run_tests.sh tests/test_docs.py -x
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
. scripts/python.sh
prepare requirements-dev.txt
# Several at a time; a file stays together, for its tests share servers.
exec "$python" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"

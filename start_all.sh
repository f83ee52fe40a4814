#!/bin/sh
# Starts everything, on a fresh machine too: makes .venv, installs, then runs both servers until Ctrl+C.
# Arguments go on to `manage.py start`: ./start_all.sh --slow-motion --open
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
. scripts/python.sh
prepare requirements.txt
exec "$python" manage.py start "$@"

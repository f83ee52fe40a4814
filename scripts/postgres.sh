#!/usr/bin/env bash
# Runs a command with a PostgreSQL of its own, which is thrown away afterwards:
#     scripts/postgres.sh .venv/bin/python -m pytest tests/files_app/models
# The server listens on a socket in a temporary folder only, and DATABASE_URL leads to it. It needs Debian's
# package postgresql, or its programs in the PATH.
set -euo pipefail

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
if [ -z "$bin" ]; then
    found=$(command -v initdb) || {
        echo "There is no PostgreSQL here: sudo apt install postgresql" >&2
        exit 1
    }
    bin=$(dirname -- "$found")
fi

# PostgreSQL refuses to run as root.
as_user=(env)
[ "$(id -u)" != 0 ] || as_user=(runuser -u postgres --)

home=$(mktemp -d /tmp/postgres.XXXXXX) # a short path: that of a socket may have a hundred bytes
stop() {
    "${as_user[@]}" "$bin/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap stop EXIT
[ "$(id -u)" != 0 ] || chown postgres "$home"

run_quietly() { # run_quietly COMMAND... as the user of the server, from a folder that it may enter
    (cd / && "${as_user[@]}" "$@") >"$home.log" 2>&1 || { cat "$home.log" >&2; rm -f "$home.log"; exit 1; }
    rm -f "$home.log"
}
run_quietly "$bin/initdb" -D "$home/data" -A trust -U cfs --no-sync -E UTF8 \
    --locale=C.UTF-8 --locale-provider=icu --icu-locale=en # as on most machines: text is not sorted by its bytes
# What is lost with a crash of the machine does not matter here, and the tests wait for no disk.
run_quietly "$bin/pg_ctl" -D "$home/data" -w -l "$home/data/log" \
    -o "-k '$home' -c listen_addresses= -c fsync=off -c max_connections=200" start
chmod 755 "$home"
run_quietly "$bin/createdb" -h "$home" -U cfs files

export DATABASE_URL="postgres://cfs@/$home/files" # with two slashes the host is a folder, of the socket
"$@"

"""``python -m benchmarks``: all of them; with names, those."""

import sys
import tempfile
from pathlib import Path

from benchmarks import uploads
from benchmarks.measure import table

SCENARIOS = {
    "upload-command": ("1 GiB upload by the command", uploads.by_command),
    "upload-http": ("1 GiB upload over HTTP", uploads.over_http),
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]}. There are: {', '.join(SCENARIOS)}")
    for name in names or SCENARIOS:
        title, scenario = SCENARIOS[name]
        # Beside the project and not in /tmp, which may be memory.
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=Path(__file__).parent) as home:
            print(table(title, scenario(Path(home))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

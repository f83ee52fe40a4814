"""The variables that find tests which rely on luck do what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import logging, sys, threading, time
import pytest

pytestmark = pytest.mark.filterwarnings("error")


def test_what_is_set(caplog):
    logging.warning("by the tests' own thread")
    thread = threading.Thread(target=logging.warning, args=("by another",))
    begun = time.monotonic()
    thread.start()
    at_once = len(caplog.messages)
    thread.join()
    print("interval", sys.getswitchinterval(), "late", time.monotonic() - begun >= 0.3, at_once)
    assert caplog.messages[-1] == "by another"
"""


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "interval 0.005 late"),
        ({"SWITCH_INTERVAL": "1e-6"}, "interval 1e-06 late"),
        ({"LATE": "0.3"}, "interval 0.005 late True 1"),
    ],
)
def test_turns_are_short_and_news_are_late_if_that_is_asked_for(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE)
    others = {name: value for name, value in os.environ.items() if name not in ("SWITCH_INTERVAL", "LATE")}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(probe)],
        cwd=ROOT,
        env={**others, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert said in done.stdout

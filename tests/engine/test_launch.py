"""Several processes on one machine: how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vdet_ssl.engine import launch
from vdet_ssl.errors import ConfigError

SLEEPERS = """
import os, time
from pathlib import Path
from vdet_ssl.engine import launch
from vdet_ssl.errors import one_line_errors

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    with one_line_errors():
        launch(work, 2, dist_url="auto", args=(os.environ["FOLDER"],))
"""


def is_alive(pid):
    """Whether a process runs; one that has ended and waits to be collected does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_all_processes_end_when_the_launcher_is_interrupted(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    environment = {**os.environ, "FOLDER": str(tmp_path / "work")}
    command = [sys.executable, str(tmp_path / "sleepers.py")]
    # A shell that has started the tests in the background has them, and their processes, ignore SIGINT.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **heeding) as launcher:
        while len(started := list((tmp_path / "work").iterdir())) < 2 and launcher.poll() is None:
            time.sleep(0.1)
        launcher.send_signal(signal.SIGINT)
        _, printed = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + signal.SIGINT and "Traceback" not in printed
    assert len(started) == 2
    deadline = time.monotonic() + 30
    while any(is_alive(path.name) for path in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_alive(path.name) for path in started)


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2"}, {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}])
def test_processes_of_other_launchers_are_refused(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="each of which would be a training of its own"):
        launch(print, 1)

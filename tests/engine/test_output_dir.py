"""Who may write to a folder, and what becomes of what is in it."""

import signal
import subprocess
import sys

import pytest

from vdet_ssl.engine.output_dir import claim, clear
from vdet_ssl.errors import ConfigError

HOLD = "import sys, time; from vdet_ssl.engine.output_dir import claim; "
HOLD += "claim(sys.argv[1], resume=True, overwrite=False); print(flush=True); time.sleep(60)"


def test_a_folder_is_one_runs_until_that_dies(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        for choice in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
            with pytest.raises(ConfigError, match="in use by another run"):
                claim(str(tmp_path), **choice)
        other.send_signal(signal.SIGKILL)
    claim(str(tmp_path), resume=False, overwrite=False)


def test_a_training_is_replaced_only_where_that_is_asked_for(tmp_path):
    names = ["model_0000009.pth", "last_checkpoint", "metrics.json", "inference/val/results.json", "mine.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("something")
    with pytest.raises(ConfigError, match="holds a training already: --resume goes on with it, --overwrite"):
        claim(str(tmp_path), resume=False, overwrite=False)
    for choice in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        claim(str(tmp_path), **choice)
        assert all((tmp_path / name).exists() for name in names)
    clear(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", ".lock"}

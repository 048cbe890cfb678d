"""Who may write to a folder, and what becomes of what is in it."""

import signal
import subprocess
import sys

import pytest

from vdet_ssl.engine.output_dir import claim
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
    names = [
        "model_0000009.pth",
        "last_checkpoint",
        "metrics.json",
        "log.txt",
        "inference/val/results.json",
        "mine.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("something")
    with pytest.raises(ConfigError, match="holds a training already: --resume goes on with it, --overwrite"):
        claim(str(tmp_path), resume=False, overwrite=False)
    claim(str(tmp_path), resume=True, overwrite=False)
    assert all((tmp_path / name).exists() for name in names)
    claim(str(tmp_path), resume=False, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", ".lock"}


def test_what_never_came_to_a_checkpoint_makes_room(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    claim(str(tmp_path), resume=False, overwrite=False)
    assert not (tmp_path / "metrics.json").exists()

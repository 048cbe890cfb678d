"""Files that are whole or not there."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch

from vdet_ssl.errors import ConfigError
from vdet_ssl.files import atomic_write, hold_lock, remove_partial_files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_changes_all_at_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("näu")
        file.flush()
        assert path.read_text() == "old" and len(names(tmp_path)) == 2
    assert path.read_text(encoding="utf-8") == "näu" and names(tmp_path) == ["a.txt"]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_kill_leaves_what_was_there_and_a_file_that_can_be_told(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    code = "import os, sys; from vdet_ssl.files import atomic_write\nwith atomic_write(sys.argv[1]) as file:\n"
    code += "    file.write('new'); file.flush(); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old" and len(names(tmp_path)) == 2
    remove_partial_files(tmp_path)
    assert names(tmp_path) == ["a.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    with atomic_write(tmp_path / "a.txt"):
        pass
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_link_at_the_place_is_replaced_not_followed(tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    (tmp_path / "a.txt").symlink_to(tmp_path / "other.txt")
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("new")
    assert (tmp_path / "other.txt").read_text() == "mine" and (tmp_path / "a.txt").read_text() == "new"


def test_a_pipe_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(tmp_path / "pipe") as file:
        file.write("new")
    assert os.read(reader, 9) == b"new" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


def write_text(file):
    file.write(b"x" * 200_000)


def write_tensors(file):
    torch.save({"weights": torch.zeros(50_000)}, file)


@pytest.mark.parametrize("write", [write_text, write_tensors])
def test_a_disk_that_is_full_is_named_with_the_file(tmp_path, write):
    path, limits = tmp_path / "model.pth", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError) as caught, atomic_write(path, "wb") as file:
            write(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert path.read_text() == "old" and names(tmp_path) == ["model.pth"]


HOLD = """
import os, sys, time
from vdet_ssl.files import hold_lock
hold_lock(sys.argv[1], "taken")
if os.fork() == 0:
    print(flush=True)  # this child lives on, as a worker in the middle of a video does
time.sleep(60)
"""


def test_a_lock_ends_with_its_process_even_where_a_child_lives_on(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as other:
        other.stdout.readline()
        with pytest.raises(ConfigError, match="in use"):
            hold_lock(path, "in use")
        other.kill()
        other.wait()
        hold_lock(path, "in use")
        os.killpg(other.pid, signal.SIGKILL)

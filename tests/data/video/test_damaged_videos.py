"""Damaged copies of a real and of a made video: frames or a VideoError, in time, without crash or leak."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vdet_ssl.data.video.reader import decode_clips, open_video
from vdet_ssl.errors import VideoError

LIMIT_S = 20.0
# Reads all files of a folder in a process of its own; a crash, or any error but VideoError, fails it.
READ_ALL = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from vdet_ssl.errors import VideoError
from vdet_ssl.data.video.reader import open_video

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

results = []
for path in sorted(Path(sys.argv[1]).iterdir()):
    begin = time.monotonic()
    rng = np.random.default_rng(len(results))
    try:
        with open_video(path, backend="pyav", timeout_s=float(sys.argv[2])) as video:
            duration_s = min(video.duration_s, 20.0)
            times_s = [rng.uniform(0, duration_s) + np.arange(4) * 0.1 for _ in range(2)]
            clips = video.decode_clips(times_s, "yuv" if len(results) % 2 else "rgb")
            assert all(len(clip) == 4 for clip in clips)
        outcome = "frames"
    except VideoError as error:
        assert error.path == str(path) and error.reason
        outcome = error.reason
    results.append([path.name, outcome, time.monotonic() - begin, resident_mb()])
print(json.dumps(results))
"""


def _flip_bits(content, rng):
    for position in rng.integers(len(content), size=rng.integers(1, 6)):
        content[position] ^= 1 << rng.integers(8)
    return content


def _truncate(content, rng):
    return content[: rng.integers(1, len(content))]


def _zero_a_block(content, rng):
    size = int(rng.integers(1, 2000))
    begin = int(rng.integers(max(len(content) - size, 1)))
    content[begin : begin + size] = bytes(len(content[begin : begin + size]))
    return content


def _swap_atoms(content, rng):
    """Swap two of an mp4's top-level atoms, or two equally long stretches of what is not an mp4."""
    atoms = []
    while content and content[4:8].isalpha():
        size = int.from_bytes(content[:4], "big")
        if not 8 <= size <= len(content):
            break
        atoms.append(content[:size])
        content = content[size:]
    if len(atoms) < 2:
        atoms = [content[i : i + 1000] for i in range(0, len(content), 1000)]
        content = b""
    i, j = rng.choice(len(atoms), 2, replace=False)
    atoms[i], atoms[j] = atoms[j], atoms[i]
    return b"".join(atoms) + content


DAMAGES = [_flip_bits, _truncate, _zero_a_block, _swap_atoms]


def _read_damaged_copies(sources, folder, count):
    folder.mkdir()
    for i in range(count):
        source = sources[i % len(sources)]
        damage = DAMAGES[i // len(sources) % len(DAMAGES)]
        content = damage(bytearray(source.read_bytes()), np.random.default_rng(i))
        (folder / f"{i:04d}{damage.__name__}{source.suffix}").write_bytes(content)
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", READ_ALL, str(folder), str(LIMIT_S)]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True, timeout=count * LIMIT_S)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert len(results) == count
    assert max(duration for _, _, duration, _ in results) < LIMIT_S + 5
    return results


def _check_outcomes(results):
    """Both must occur: else the damage, or the reading, is not what these tests are for."""
    assert {outcome == "frames" for _, outcome, _, _ in results} == {True, False}


def _made_videos(make_video, folder):
    return [
        make_video(folder / "made.mp4", num_frames=90, bframes=2, gop=30, sound_s=0),
        make_video(folder / "made.mkv", num_frames=90, codec="libx265", bframes=2, gop=30, sound_s=3),
    ]


def test_damaged_copies(make_video, tmp_path):
    _check_outcomes(_read_damaged_copies(_made_videos(make_video, tmp_path), tmp_path / "damaged", 96))


def test_damaged_copies_of_a_real_video(shared_videos, tmp_path):
    _check_outcomes(_read_damaged_copies([shared_videos / "structuralize.mp4"], tmp_path / "damaged", 24))


@pytest.mark.slow
def test_a_thousand_damaged_copies(make_video, shared_videos, tmp_path):
    sources = [shared_videos / "test_10s.mp4", *_made_videos(make_video, tmp_path)]
    results = _read_damaged_copies(sources, tmp_path / "damaged", 1000)
    _check_outcomes(results)
    resident_mb = [megabytes for *_, megabytes in results]
    assert np.mean(resident_mb[-100:]) < np.mean(resident_mb[300:400]) + 30, "memory grows"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_truncated_is_an_error_or_the_right_frames(make_video, read_number, tmp_path, name):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = make_video(tmp_path / name, codec=codec, num_frames=90, bframes=2, gop=15, container_options=options)
    content = path.read_bytes()
    times_s = np.array([0.2, 1.0, 2.0, 2.8])
    outcomes = []
    for fraction in np.linspace(0.05, 0.95, 19):
        path.write_bytes(content[: int(fraction * len(content))])
        for time_s in times_s:
            try:
                (clip,) = decode_clips(path, [np.array([time_s])], backend="pyav", timeout_s=LIMIT_S)
                outcomes.append(round(time_s * 30) - read_number(clip[0]) in (0, 1))  # one lost frame goes unnoticed
            except VideoError:
                outcomes.append(None)
    if name == "a.ts":  # says nowhere how long it is: its end is where it ends
        return
    assert False not in outcomes
    assert True in outcomes and None in outcomes


def test_truncated_with_torchcodec(make_video, tmp_path):
    pytest.importorskip("vdet_ssl.data.video.torchcodec_reader", exc_type=ImportError)
    path = make_video(tmp_path / "a.mkv", num_frames=90, bframes=2, gop=15)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(VideoError, match="its container says 3.00 s"):
        decode_clips(path, [np.array([2.9])], backend="torchcodec", timeout_s=LIMIT_S)


def test_damaged_frame_is_not_returned(make_video, tmp_path):
    """A key frame whose middle is overwritten spoils all that follow it until the next one."""
    path = make_video(tmp_path / "a.mp4", num_frames=60, gop=30, bframes=2)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 1000
    content[begin : begin + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(content)
    for time_s in (0.0, 0.5):
        with pytest.raises(VideoError):
            decode_clips(path, [np.array([time_s])], backend="pyav", timeout_s=LIMIT_S)
    decode_clips(path, [np.array([1.5])], backend="pyav", timeout_s=LIMIT_S)


def test_corrupted_video(shared_videos):
    path = shared_videos / "corrupted.mp4"
    with open_video(path, backend="pyav", timeout_s=LIMIT_S) as video:
        times_s = np.arange(0, video.duration_s, 0.1)
        with pytest.raises(VideoError, match="corrupted.mp4"):
            video.decode_clips([times_s], "rgb")
    with open_video(path, backend="pyav", timeout_s=LIMIT_S) as video, pytest.raises(VideoError, match="corrupted.mp4"):
        video.measure()

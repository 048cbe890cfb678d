from fractions import Fraction

import av
import numpy as np
import pytest

from vdet_ssl.data.video import VideoWriter, decode_clips, is_video, open_video, probe
from vdet_ssl.data.video.writer import nearest_rate

OPTIONS = {"preset": "ultrafast", "crf": "1"}


def _gray(number):
    return np.full((48, 64, 3), 20 * number, np.uint8)


def test_frames_come_back_at_their_times(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=10, width=64, height=48, options=OPTIONS) as writer:
        for number in range(12):
            writer.write(_gray(number))
    info = probe(tmp_path / "a.mp4")
    assert (info.num_frames, info.width, info.height, info.codec) == (12, 64, 48, "h264")
    assert info.duration_s == pytest.approx(1.2) and info.fps == pytest.approx(10)
    (clip,) = decode_clips(tmp_path / "a.mp4", [np.arange(12) / 10])
    np.testing.assert_allclose(clip.mean((1, 2, 3)), 20 * np.arange(12), atol=3)


def test_frames_can_bring_their_own_time_stamps_and_a_color_matrix(tmp_path):
    stamps_ms = np.array([0, 100, 700, 750])
    options = {"options": OPTIONS, "time_base": Fraction(1, 1000), "colorspace": 1}
    with VideoWriter(tmp_path / "a.mp4", fps=5, width=64, height=48, **options) as writer:
        for number, stamp in enumerate(stamps_ms):
            frame = av.VideoFrame.from_ndarray(_gray(number), "rgb24")
            frame.pts, frame.time_base = int(stamp), Fraction(1, 1000)
            writer.write(frame)
    with open_video(tmp_path / "a.mp4") as video:
        (clip,) = video.decode_clips([[0.05, 0.1, 0.69, 0.7, 0.76]])
        np.testing.assert_allclose(clip.mean((1, 2, 3)), [0, 20, 20, 40, 60], atol=3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_range) == (1, 1)


def test_an_error_while_writing_is_the_one_that_is_raised(tmp_path):
    with (
        pytest.raises(KeyError, match="mine"),
        VideoWriter(tmp_path / "a.mp4", fps=10, width=64, height=48, options=OPTIONS) as writer,
    ):
        writer.write(_gray(1))
        raise KeyError("mine")


def test_a_folder_that_is_missing_is_an_os_error(tmp_path):
    path = tmp_path / "none/a.mp4"
    with pytest.raises(OSError), VideoWriter(path, fps=10, width=64, height=48, options=OPTIONS) as writer:
        writer.write(_gray(1))


def test_rates_are_those_that_containers_hold():
    assert nearest_rate(29.97) == Fraction(2997, 100) and nearest_rate(30000 / 1001) == Fraction(30000, 1001)
    assert nearest_rate(0) == 25


def test_names_of_videos():
    assert is_video("a/b.MP4") and is_video("c.webm")
    assert not any(map(is_video, ("a.srt", "a/._b.mp4", "mp4", "a.mp4.part")))

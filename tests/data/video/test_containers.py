"""What a player shows of files that are made in unusual ways: which stream, which frames, when, and until when."""

import os
import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from vdet_ssl.data.datasets.manifest import examine
from vdet_ssl.data.video.info import MAX_DURATION_S
from vdet_ssl.data.video.reader import decode_clips, open_video, probe
from vdet_ssl.errors import VideoError

TICKS = 12800 // 25  # of a frame, in FFmpeg's mp4 of 25 frames a second


@pytest.fixture(params=["pyav", "torchcodec"])
def backend(request, make_video, tmp_path):
    if request.param == "torchcodec":
        reader = pytest.importorskip("vdet_ssl.data.video.torchcodec_reader", exc_type=ImportError).TorchCodecReader
        with reader(make_video(tmp_path / "try.mp4", num_frames=2), 0) as video:
            try:
                video.decode_directly([np.zeros(1)])
            except ImportError as error:
                pytest.skip(str(error))
    return request.param


def set_edit_list(path, segments):
    """Replace the edit list of an mp4 whose index is at its end: (milliseconds, first frame; None for nothing)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"elst") - 4
    size = int.from_bytes(content[start : start + 4])
    (first,) = struct.unpack_from(">i", content, start + 20)
    entries = [(ms, -1 if frame is None else first + frame * TICKS, 1 << 16) for ms, frame in segments]
    edits = b"".join(struct.pack(">IiI", *entry) for entry in entries)
    content[start : start + size] = struct.pack(">I4sII", 16 + len(edits), b"elst", 0, len(segments)) + edits
    for box in (b"edts", b"trak", b"moov"):
        where = content.rindex(box, 0, start) - 4
        longer = int.from_bytes(content[where : where + 4]) + 16 + len(edits) - size
        struct.pack_into(">I", content, where, longer)
    path.write_bytes(content)


def add_silence(source, target, seconds):
    """Copy the packets of a video into another container, beside a stream of sound."""
    with av.open(str(source)) as file, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        sound = copy.add_stream("pcm_s16le", rate=8000, layout="mono")
        for packet in file.demux(file.streams.video[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
        for second in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 8000 * second, Fraction(1, 8000)
            copy.mux(sound.encode(frame))
        copy.mux(sound.encode(None))


def numbers(path, times_s, read_number, backend="pyav"):
    (clip,) = decode_clips(path, [times_s], backend=backend)
    return [read_number(frame) for frame in clip]


def in_order(path, read_number):
    """Times in seconds and numbers of all frames, decoded one after another."""
    with open_video(path) as video:
        frames = [(float(time_s), read_number(frame.to_ndarray(format="rgb24"))) for time_s, frame in video.frames()]
    return [time_s for time_s, _ in frames], [number for _, number in frames]


EDITS = {
    "middle cut out": ([(1000, 0), (1000, 60)], [*range(25), *range(60, 85)]),
    "three parts": ([(480, 3), (800, 33), (1000, 70)], [*range(3, 15), *range(33, 53), *range(70, 95)]),
    "end before beginning": ([(1000, 60), (1000, 0)], [*range(60, 85), *range(25)]),
    "twice": ([(1000, 10), (1000, 10)], [*range(10, 35)] * 2),
    "nothing first": ([(520, None), (2000, 5)], [*range(5, 55)]),
    "more than there is": ([(6000, 10)], [*range(10, 100)]),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_list_of_several_segments(make_video, read_number, tmp_path, backend, name):
    segments, expected = EDITS[name]
    path = make_video(tmp_path / "a.mp4", fps=25, num_frames=100, gop=25)
    set_edit_list(path, segments)
    times_s, shown = in_order(path, read_number)
    assert shown == expected
    np.testing.assert_allclose(times_s, np.arange(len(expected)) / 25, atol=1e-6)
    assert numbers(path, np.array(times_s), read_number, backend) == expected
    for time_s, number in list(zip(times_s, expected, strict=True))[::9]:
        assert numbers(path, [time_s], read_number, backend) == [number]
    assert probe(path, backend=backend).duration_s == pytest.approx(len(expected) / 25)
    assert examine(path, timeout_s=0)["error"] is None


def test_edit_list_of_reordered_frames(make_video, read_number, tmp_path, backend):
    path = make_video(tmp_path / "a.mp4", fps=25, num_frames=100, gop=25, bframes=2)
    set_edit_list(path, [(1000, 0), (1000, 60)])
    times_s, shown = in_order(path, read_number)
    assert shown == [*range(25), *range(60, 85)]
    assert all(a < b for a, b in pairwise(times_s))
    assert numbers(path, times_s, read_number, backend) == shown


def test_the_stream_that_a_player_chooses(make_video, read_number, tmp_path, backend):
    """Not the still that comes first, nor a smaller preview."""
    video = make_video(tmp_path / "a.mp4", fps=25, num_frames=50)
    path = tmp_path / "cover_first.mkv"
    with av.open(str(video)) as file, av.open(str(path), "w") as copy:
        cover = copy.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition(0)
        stream = copy.add_stream_from_template(file.streams.video[0])
        stream.disposition = av.stream.Disposition.default
        still = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").reformat(format="yuvj420p")
        still.pts = 0
        copy.mux(cover.encode(still))
        copy.mux(cover.encode(None))
        for packet in file.demux(file.streams.video[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    info = probe(path, backend=backend)
    assert (info.width, info.height, info.codec) == (128, 96, "h264")
    assert numbers(path, np.arange(50) / 25, read_number, backend) == list(range(50))
    assert examine(path, timeout_s=0)["num_frames"] == 50


@pytest.mark.parametrize("name, fps", [("a.mp4", 600), ("a.mp4", 1000), ("a.mp4", 2000), ("a.mkv", 960)])
def test_very_high_frame_rates(make_video, read_number, tmp_path, backend, name, fps):
    path = make_video(tmp_path / name, fps=fps, num_frames=60, bframes=2, gop=20)
    assert numbers(path, np.arange(60) / fps, read_number, backend) == list(range(60))


@pytest.mark.parametrize("name, codec", [("a.h264", "libx264"), ("a.h265", "libx265"), ("a.m1v", "mpeg1video")])
def test_raw_streams_have_a_duration(make_video, read_number, tmp_path, backend, name, codec):
    path = make_video(tmp_path / name, fps=30, num_frames=60, codec=codec, bframes=2, gop=15)
    info = probe(path, backend=backend)
    assert (info.duration_s, info.fps) == (pytest.approx(2.0), pytest.approx(30.0))
    assert numbers(path, np.arange(60) / 30, read_number, backend) == list(range(60))


@pytest.mark.parametrize("name, codec", [("a.mkv", "libx264"), ("a.wmv", "wmv2")])
def test_duration_is_that_of_the_video_not_of_its_sound(make_video, tmp_path, name, codec):
    source = make_video(tmp_path / "a.avi", fps=25, num_frames=50, codec=codec, gop=10)
    path = tmp_path / name
    add_silence(source, path, seconds=6)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIOX"))  # not every Matroska has that of each stream
    assert probe(path).duration_s == pytest.approx(2.0, abs=0.05)
    row = examine(path, timeout_s=0)
    assert (row["error"], row["num_frames"]) == (None, 50)


def test_flv_counts_from_zero(make_video, read_number, tmp_path):
    """With B-frames its first frame is presented at 0.08 s, and its header says 2.08 s."""
    path = make_video(tmp_path / "a.flv", fps=25, num_frames=50, bframes=2, gop=10)
    assert probe(path).duration_s == pytest.approx(2.0, abs=2e-3)
    assert examine(path, timeout_s=0)["error"] is None
    assert numbers(path, [1.96, 2.2], read_number) == [49, 49]


@pytest.mark.parametrize("name, codec", [("a.webm", "libvpx-vp9"), ("a.mkv", "libx264")])
def test_header_may_say_more_than_a_whole_file_has(make_video, tmp_path, name, codec):
    path = make_video(tmp_path / name, fps=25, num_frames=50, codec=codec, gop=10)
    content = path.read_bytes().replace(b"DURATION", b"DURATIOX")
    duration = struct.pack(">d", 2000.0)
    path.write_bytes(content.replace(duration, struct.pack(">d", 2500.0), 1))
    assert duration in content
    assert examine(path, timeout_s=0)["error"] is None
    assert probe(path).duration_s == pytest.approx(2.0)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "its container says 2.50 s" in examine(path, timeout_s=0)["error"]


def test_avi_may_count_finer_ticks_than_frames(make_video, read_number, tmp_path):
    """As FFmpeg writes it when it copies a stream: 24 ticks a frame."""
    times_s = [Fraction(i, 25) for i in range(50)]
    path = make_video(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p", times_s=times_s)
    with av.open(str(path)) as file:
        assert file.streams.video[0].frames > 50
    with open_video(path) as video:
        assert (video.duration_s, video.fps) == (pytest.approx(2.0, abs=0.05), pytest.approx(25, rel=0.05))
    assert examine(path, timeout_s=0)["error"] is None
    assert numbers(path, np.arange(50) / 25, read_number) == list(range(50))


def test_av1_is_decoded_from_the_nearest_key_frame(make_video, read_number, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", fps=25, num_frames=100, codec="libsvtav1", gop=25)
    monkeypatch.setattr("vdet_ssl.data.video.decoding._decode_in_order", None)  # would be called
    assert numbers(path, np.arange(100) / 25, read_number) == list(range(100))
    assert numbers(path, [3.4], read_number) == [85]


def _gray(number, time_s, height, width):
    frame = av.VideoFrame.from_ndarray(np.full((height, width), 235 if number else 16, np.uint8), format="gray")
    return frame


@pytest.mark.parametrize("limited, levels", [("1", (0, 255)), ("0", (16, 235))])
def test_range_of_gray(make_video, tmp_path, backend, limited, levels):
    """Black and white of limited range are 16 and 235, of full range 0 and 255."""
    path = make_video(
        tmp_path / "a.mkv",
        num_frames=2,
        codec="ffv1",
        pix_fmt="gray",
        painter=_gray,
        options={"color_range": "tv" if limited == "1" else "pc"},
    )
    (clip,) = decode_clips(path, [[0, 1 / 30]], backend=backend)
    assert (clip[0].max(), clip[1].min()) == levels


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_mirrored_by_both_backends(make_video, tmp_path, backend, matrix):
    path = make_video(tmp_path / "a.mp4", num_frames=2)
    (stored,) = decode_clips(path, [[0.0]])
    one, content = 1 << 16, path.read_bytes()
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    a, b, c, d = (one * x for x in matrix)
    track = content.index(b"tkhd")
    mirrored = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:track] + content[track:].replace(upright, mirrored, 1))
    expected = stored.swapaxes(1, 2) if matrix[0] == 0 else stored
    expected = expected[:, :: matrix[3] or matrix[1], :: matrix[0] or matrix[2]]
    np.testing.assert_array_equal(decode_clips(path, [[0.0]], backend=backend)[0], expected)


def test_of_frames_at_one_time_the_last_one_stays(make_video, read_number, tmp_path):
    """Matroska counts milliseconds: at 2000 frames a second two share one."""
    path = make_video(tmp_path / "a.mkv", fps=2000, num_frames=40, gop=10)
    times_s, shown = in_order(path, read_number)
    last = {round(1000 * time_s): number for time_s, number in zip(times_s, shown, strict=True)}
    assert numbers(path, np.array(list(last)) / 1000, read_number) == list(last.values())


@pytest.mark.parametrize(
    "name", ["2024-05-01T10:00:00.mp4", "http:host", "concat:a.mp4", "subfile,,start,0,:x", "a%03d"]
)
def test_a_name_is_a_local_file_whatever_is_in_it(make_video, read_number, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_video("a.mp4", num_frames=3).rename(name)
    assert numbers(name, [0, 1 / 15], read_number) == [0, 2]


@pytest.mark.parametrize(
    "name", ["http:127.0.0.1:9/a.mp4", "concat:a.mp4|a.mp4", "tcp:127.0.0.1:9", "subfile,,start,0,end,0,,:a.mp4"]
)
def test_a_name_is_not_a_protocol(make_video, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_video("a.mp4", num_frames=3)
    with pytest.raises(VideoError, match="No such file"):
        probe(name)


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.mp4", "ffconcat version 1.0\nfile b.ts\n"),
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n"),
    ],
)
def test_playlists_are_refused(make_video, tmp_path, name, text):
    make_video(tmp_path / "b.ts", num_frames=3)
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(VideoError, match="playlists are not read"):
        probe(path)
    assert "playlists are not read" in examine(path, timeout_s=0)["error"]


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="not a file"):
        probe(tmp_path / "a.mp4")
    assert examine(tmp_path / "a.mp4", timeout_s=0)["error"] == "not a file"


def test_a_few_bytes_do_not_last_for_a_year(make_video, tmp_path):
    path = make_video(tmp_path / "a.mkv", times_s=[Fraction(0), Fraction(1, 25), Fraction(30_000_000)])
    with pytest.raises(VideoError, match=f"more than {MAX_DURATION_S} s"):
        probe(path)
    assert "a week" in examine(path, timeout_s=0)["error"]

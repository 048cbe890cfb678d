import gc
import pickle
import struct
import weakref
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vdet_ssl.data.video.reader import decode_clips, open_video, probe
from vdet_ssl.data.video.yuv import YUVClip, rgb_matrix
from vdet_ssl.errors import VideoError

TIMEOUT_S = 60.0
NTSC = Fraction(30000, 1001)
VARIABLE = np.cumsum([0, 40, 40, 7, 500, 33, 33, 34, 100, 3, 250, 40, 40, 1000, 20, 20, 20, 60, 90, 40]) / 1000
CASES = {
    "h264_24.mp4": {"fps": 24},
    "h264_25_lossless.mp4": {"fps": 25, "lossless": True, "bframes": 3},
    "h264_ntsc_bframes.mp4": {"fps": NTSC, "bframes": 3, "options": {"b-pyramid": "normal"}},
    "h264_30.mkv": {"fps": 30, "bframes": 2, "gop": 12},
    "h264_60.mov": {"fps": 60, "bframes": 2, "gop": 20},
    "h264_variable.mp4": {"times_s": VARIABLE},
    "h264_variable_bframes.mkv": {"times_s": VARIABLE, "bframes": 2},
    "h264_open_gop.mp4": {"bframes": 3, "gop": 15, "options": {"x264-params": "open-gop=1:b-pyramid=normal"}},
    "h264_intra_refresh.mp4": {"gop": 15, "options": {"x264-params": "intra-refresh=1"}},
    "h264_reordered.avi": {"fps": 25, "bframes": 2, "gop": 15},
    "h264_stream.ts": {"fps": 25, "bframes": 2, "gop": 15},
    "h264_raw.h264": {"fps": 25, "bframes": 2, "gop": 15},
    "h264_fragments.mp4": {"gop": 15, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264_live.mkv": {"gop": 15, "container_options": {"live": "1"}},
    "h264_late_start.mp4": {"start_s": 1.2, "bframes": 2},
    "h264_odd_start.mkv": {"fps": NTSC, "start_s": 0.7007, "bframes": 2},
    "h264_444.mp4": {"pix_fmt": "yuv444p"},
    "h264_444_odd_size.mp4": {"size": (97, 131), "pix_fmt": "yuv444p"},
    "h264_10bit.mp4": {"pix_fmt": "yuv420p10le", "bframes": 2},
    "hevc_bframes.mp4": {"codec": "libx265", "bframes": 3, "gop": 15},
    "hevc_10bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "vp9.webm": {"codec": "libvpx-vp9", "fps": 25, "gop": 20},
    "vp8.webm": {
        "codec": "libvpx",
        "fps": 25,
        "gop": 20,
        "options": {"auto-alt-ref": "1", "lag-in-frames": "8", "b": "2M"},
    },
    "av1.mkv": {"codec": "libsvtav1", "fps": 24},
    "mpeg4.avi": {"codec": "mpeg4", "fps": 25, "bframes": 2},
    "mpeg2.ts": {"codec": "mpeg2video", "fps": 25, "bframes": 2, "gop": 12, "options": {"b": "4M"}},
    "mjpeg.avi": {"codec": "mjpeg", "fps": 25, "pix_fmt": "yuvj420p"},
}
# Where torchcodec, or the FFmpeg it finds, may fail or return wrong frames; they are read with PyAV.
TORCHCODEC_MAY_FAIL = {
    "h264_open_gop.mp4", "h264_intra_refresh.mp4", "h264_reordered.avi", "h264_stream.ts", "h264_raw.h264",
    "mpeg4.avi", "mpeg2.ts", "mjpeg.avi",
}  # fmt: skip


def _presentation_times(fps=30, num_frames=60, times_s=None, **_):
    return np.arange(num_frames) / float(fps) if times_s is None else np.asarray(times_s)


@pytest.fixture(scope="module", params=CASES)
def video(request, make_video, tmp_path_factory):
    """Path of a case's video and the presentation times of its frames."""
    options = CASES[request.param]
    path = make_video(tmp_path_factory.mktemp("videos") / request.param, **options)
    return path, _presentation_times(**options)


def _open_torchcodec(path):
    reader = pytest.importorskip("vdet_ssl.data.video.torchcodec_reader", exc_type=ImportError).TorchCodecReader
    try:
        video = reader(path, TIMEOUT_S)
        video.decode_directly([np.zeros(1)])
    except ImportError as error:
        pytest.skip(str(error))
    except VideoError:
        pass
    return video


@pytest.fixture(params=["pyav", "torchcodec"])
def backend(request, make_video, tmp_path):
    if request.param == "torchcodec":
        _open_torchcodec(make_video(tmp_path / "try.mp4", num_frames=2)).close()
    return request.param


def _decode(path, times_s, backend="pyav", pixel_format="rgb"):
    return decode_clips(path, times_s, backend=backend, timeout_s=TIMEOUT_S, pixel_format=pixel_format)


def _numbers(path, times_s, read_number, backend="pyav", pixel_format="rgb"):
    (clip,) = _decode(path, [times_s], backend, pixel_format)
    return [read_number(frame) for frame in (clip.to_rgb() if isinstance(clip, YUVClip) else clip)]


def test_each_frame_at_its_own_time(video, backend, read_number):
    path, shown_at = video
    assert _numbers(path, shown_at, read_number, backend) == list(range(len(shown_at)))


def test_a_frame_lasts_until_the_next(video, backend, read_number):
    path, shown_at = video
    just_before_next = shown_at[1:] - 0.0025
    assert _numbers(path, just_before_next, read_number, backend) == list(range(len(shown_at) - 1))


def test_any_times_in_any_order(video, backend, read_number):
    path, shown_at = video
    rng = np.random.default_rng(0)
    for _ in range(4):
        clips_s = [rng.uniform(-0.5, shown_at[-1] + 0.5, 5) for _ in range(3)]
        clips = _decode(path, clips_s, backend)
        for times_s, clip in zip(clips_s, clips, strict=True):
            expected = np.searchsorted(shown_at, times_s + 0.001, side="right") - 1
            assert [read_number(frame) for frame in clip] == expected.clip(0).tolist()


def test_torchcodec_needs_no_help(video, read_number):
    path, shown_at = video
    if path.name in TORCHCODEC_MAY_FAIL:
        pytest.skip("read with PyAV")
    with _open_torchcodec(path) as reader:
        (clip,) = reader.decode_directly([shown_at])
    assert [read_number(frame) for frame in clip] == list(range(len(shown_at)))


def test_same_pixels_as_decoding_everything(video):
    """Frames are dropped, jumped over and drained on the way to the wanted ones, which has to leave no trace."""
    path, shown_at = video
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    wanted = np.random.default_rng(0).permutation(len(shown_at))[:7]
    (clip,) = _decode(path, [shown_at[wanted]])
    for number, frame in zip(wanted, clip, strict=True):
        np.testing.assert_array_equal(frame, whole[number])


def test_yuv_is_rgb_before_conversion(video):
    path, shown_at = video
    (rgb,) = _decode(path, [shown_at[:5]])
    (yuv,) = _decode(path, [shown_at[:5]], pixel_format="yuv")
    assert isinstance(yuv, YUVClip) == ("444" not in path.name and "10bit" not in path.name)
    if isinstance(yuv, YUVClip):
        assert yuv.shape == rgb.shape
        # swscale rounds generously
        np.testing.assert_allclose(yuv.to_rgb().astype(int), rgb, atol=3)


def test_lossless_pixels(make_video, tmp_path):
    planes = []

    def paint(number, time_s, height, width):
        rgb = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        planes.append(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p").to_ndarray())
        return rgb

    path = make_video(tmp_path / "noise.mp4", num_frames=20, lossless=True, bframes=3, painter=paint)
    (clip,) = _decode(path, [np.arange(0, 20, 3) / 30], pixel_format="yuv")
    for i, expected in enumerate(planes[::3]):
        decoded = np.concatenate([clip.y[i].ravel(), clip.u[i].ravel(), clip.v[i].ravel()])
        np.testing.assert_array_equal(decoded, expected.ravel())


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation(make_video, read_number, tmp_path, backend, rotation):
    upright = make_video(tmp_path / "upright.mp4", num_frames=10)
    rotated = make_video(tmp_path / "rotated.mp4", num_frames=10, rotation=rotation)
    times_s = np.arange(10) / 30
    (expected,) = _decode(upright, [times_s])
    (clip,) = _decode(rotated, [times_s], backend)
    np.testing.assert_array_equal(clip, np.rot90(expected, rotation // 90, axes=(1, 2)))
    (yuv,) = _decode(rotated, [times_s], pixel_format="yuv")
    np.testing.assert_allclose(yuv.to_rgb().astype(int), clip, atol=3)
    info = probe(rotated, backend=backend)
    assert (info.height, info.width, info.rotation) == (*clip.shape[1:3], rotation)


def test_mirrored(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=3)
    (expected,) = _decode(path, [np.zeros(1)])
    one = 1 << 16
    content = path.read_bytes()
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    mirrored = struct.pack(">9i", -one, 0, 0, 0, one, 0, 128 * one, 0, 1 << 30)
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(upright, mirrored, 1))
    (clip,) = _decode(path, [np.zeros(1)])
    np.testing.assert_array_equal(clip, expected[:, :, ::-1])


def test_edit_list_cuts_the_beginning(make_video, read_number, tmp_path, backend):
    """Time 0 is the first frame that is presented, which here is the 8th that is stored."""
    path = make_video(tmp_path / "a.mp4", fps=25, num_frames=50, gop=50, bframes=2)
    content = bytearray(path.read_bytes())
    entry = content.index(b"elst") + 12  # after type, version and flags, and the number of entries
    duration, media_time = struct.unpack_from(">Ii", content, entry)
    frame_ticks = 12800 // 25
    struct.pack_into(">Ii", content, entry, duration - 7 * 40, media_time + 7 * frame_ticks)
    path.write_bytes(content)
    assert _numbers(path, np.arange(10) / 25, read_number, backend) == list(range(7, 17))
    assert _numbers(path, [99.0], read_number, backend) == [49]


@pytest.mark.parametrize(
    "name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "mpeg4.avi", "structuralize.mp4", "test_10s.mp4"]
)
def test_real_videos(shared_videos, backend, name):
    """The frames that come out one after another are those at one time after another."""
    path = shared_videos / name
    with open_video(path, backend="pyav", timeout_s=TIMEOUT_S) as video:
        rate = video.fps
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    numbers = np.random.default_rng(0).integers(len(whole), size=12)
    (clip,) = _decode(path, [numbers / rate], backend)
    for number, frame in zip(numbers, clip, strict=True):
        assert np.abs(frame.astype(int) - whole[number]).mean() < 0.5  # another FFmpeg may round in another way


def test_clips_far_apart(make_video, read_number, tmp_path, backend):
    path = make_video(tmp_path / "long.mp4", fps=10, num_frames=600, gop=20, bframes=2)
    clips_s = [np.arange(8) / 10 + start_s for start_s in (51.3, 0.4, 25.0, 59.5)]
    clips = _decode(path, clips_s, backend)
    for times_s, clip in zip(clips_s, clips, strict=True):
        assert [read_number(frame) for frame in clip] == np.rint(times_s * 10).clip(max=599).tolist()


def test_one_reader_serves_several_calls(make_video, read_number, tmp_path):
    path = make_video(tmp_path / "a.mp4", bframes=2, gop=10)
    with open_video(path, backend="pyav", timeout_s=TIMEOUT_S) as video:
        for number in (30, 3, 59, 0):
            (clip,) = video.decode_clips([np.array([number / 30])], "rgb")
            assert read_number(clip[0]) == number
            assert video.info.num_frames == 60


def test_a_closed_reader_is_freed_without_the_garbage_collector(video):
    """Cycles keep files and frames until it runs, and by then the heap is in pieces that do not fit what comes next."""
    path, shown_at = video
    gc.collect()
    gc.disable()
    try:
        with open_video(path, backend="pyav", timeout_s=TIMEOUT_S) as reader:
            assert reader.decode_clips([shown_at[:4]], "yuv") and reader.info
        freed = weakref.ref(reader)
        del reader
        assert freed() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_probe(make_video, tmp_path, backend):
    path = make_video(tmp_path / "a.mp4", fps=NTSC, num_frames=90, bframes=2)
    info = probe(path, backend=backend)
    assert info.duration_s == pytest.approx(90 / NTSC)
    assert info.fps == pytest.approx(float(NTSC))
    assert (info.num_frames, info.height, info.width, info.codec, info.rotation) == (90, 96, 128, "h264", 0)


@pytest.mark.parametrize("name", ["h264_live.mkv", "h264_fragments.mp4", "h264_stream.ts"])
def test_duration_where_the_container_has_none(make_video, tmp_path, name):
    path = make_video(tmp_path / name, **CASES[name])
    assert probe(path).duration_s == pytest.approx(_presentation_times(**CASES[name])[-1], abs=0.1)


def test_shorter_than_the_clip(make_video, read_number, tmp_path, backend):
    path = make_video(tmp_path / "one.mp4", num_frames=1)
    assert _numbers(path, np.arange(8) * 8 / 30, read_number, backend) == [0] * 8
    path = make_video(tmp_path / "short.mp4", num_frames=15)
    assert _numbers(path, np.arange(4) * 8 / 30, read_number, backend) == [0, 8, 14, 14]


def test_video_shorter_than_its_sound(make_video, read_number, tmp_path):
    """The container's end is the sound's: the last frame stays, as in any player."""
    path = make_video(tmp_path / "a.mkv", num_frames=30, sound_s=3)
    assert _numbers(path, [0.5, 2.5], read_number) == [15, 29]


def test_measure_counts_what_is_there(video):
    path, shown_at = video
    with open_video(path, backend="pyav", timeout_s=TIMEOUT_S) as reader:
        info = reader.measure()
        assert (info.num_frames, info.height, info.width) == (len(shown_at), reader.info.height, reader.info.width)
    frame_s = shown_at[-1] / (len(shown_at) - 1)
    assert info.duration_s == pytest.approx(shown_at[-1] + frame_s, abs=2e-3)
    assert info.fps == pytest.approx(1 / frame_s, rel=2e-3)


def test_errors_name_the_file(tmp_path, backend):
    text = tmp_path / "text.mp4"
    text.write_text("This is not a video.")
    for path in (text, tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(VideoError) as caught:
            decode_clips(path, [np.zeros(1)], backend=backend, timeout_s=TIMEOUT_S)
        assert caught.value.path == str(path) and str(path) in str(caught.value) and caught.value.reason


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_an_image_is_not_a_video(tmp_path, kind):
    cv2.imwrite(str(tmp_path / f"a{kind}"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / f"a{kind}").rename(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="a still image"):
        decode_clips(tmp_path / "a.mp4", [np.zeros(1)], backend="pyav", timeout_s=TIMEOUT_S)


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "broken", index=3)))
    assert (error.path, error.reason, error.index, str(error)) == ("a.mp4", "broken", 3, "a.mp4: broken")


def test_unknown_backend(tmp_path):
    with pytest.raises(ValueError, match="INPUT.DECODER"):
        decode_clips(tmp_path / "a.mp4", [np.zeros(1)], backend="decord", timeout_s=TIMEOUT_S)


def test_time_limit(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=60)
    with pytest.raises(VideoError, match="too long"):
        decode_clips(path, [np.arange(60) / 30], backend="pyav", timeout_s=1e-6)


def test_absurd_size_is_refused(tmp_path):
    path = tmp_path / "huge.y4m"
    path.write_bytes(b"YUV4MPEG2 W60000 H60000 F25:1 C420\nFRAME\n" + bytes(1000))
    with pytest.raises(VideoError):
        decode_clips(path, [np.zeros(1)], backend="pyav", timeout_s=TIMEOUT_S)


def test_too_many_pixels_at_once_are_refused(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", num_frames=2)
    with pytest.raises(VideoError, match="too much"):
        decode_clips(path, [np.zeros(10**6)], backend="pyav", timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("matrix, tag", [(1, "bt709"), (5, "bt470bg")])
def test_color_matrix(make_video, tmp_path, matrix, tag):
    """A plain colour comes back as it went in when its matrix is tagged."""
    color = np.array([200, 60, 90], np.uint8)
    yuv = np.linalg.solve(rgb_matrix(matrix, False)[:, :3], color - rgb_matrix(matrix, False)[:, 3]).round()

    def paint(number, time_s, height, width):
        planes = np.concatenate(
            [np.full(height * width // divisor, x) for x, divisor in zip(yuv, (1, 4, 4), strict=True)]
        )
        frame = planes.astype(np.uint8).reshape(height * 3 // 2, width)
        return av.VideoFrame.from_ndarray(frame, format="yuv420p")

    options = {"colorspace": tag}
    path = make_video(tmp_path / "a.mp4", num_frames=2, lossless=True, options=options, painter=paint)
    for pixel_format in ("rgb", "yuv"):
        (clip,) = _decode(path, [np.zeros(1)], pixel_format=pixel_format)
        rgb = clip.to_rgb() if isinstance(clip, YUVClip) else clip
        np.testing.assert_allclose(rgb[0, 50, 50].astype(int), color, atol=3)

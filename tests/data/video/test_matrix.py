"""Containers x codecs x ways to store: every frame by its own time and in order, durations, what `examine` says.

Frames have their number painted in.  Where FFmpeg cannot write a combination it is left out; a few are as FFmpeg's
command line shows them, which knows no better either (times in an mpg with B-frames, late starts in an avi).
"""

from fractions import Fraction

import av
import numpy as np
import pytest

from vdet_ssl.data.datasets.manifest import examine
from vdet_ssl.data.video.reader import decode_clips, open_video

FPS, NUM_FRAMES = 25, 40
VARIABLE = [Fraction(i, 25) for i in np.cumsum([0, 1, 1, 1, 12, 1, 1, 2, 3, 1, 6, 1, 1, 25, 1, 1, 1, 2, 2, 1]).tolist()]
CODECS = {
    "mp4": ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4", "mpeg2video", "mjpeg"),
    "mov": ("libx264", "libx265", "mpeg4", "mjpeg"),
    "mkv": ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4", "mpeg2video", "mjpeg", "msmpeg4", "ffv1"),
    "webm": ("libvpx-vp9", "libsvtav1"),
    "avi": ("libx264", "mpeg4", "mpeg2video", "mjpeg", "wmv2", "msmpeg4", "ffv1"),
    "flv": ("libx264", "libx265", "libvpx-vp9", "flv"),
    "ts": ("libx264", "libx265", "mpeg2video", "mpeg4"),
    "m2ts": ("libx264", "mpeg2video"),
    "mpg": ("mpeg1video", "mpeg2video"),
    "3gp": ("libx264", "mpeg4"),
    "wmv": ("wmv1", "wmv2", "mpeg4", "msmpeg4"),
}
REORDERING = ("libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video")
VARIABLE_RATE = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mjpeg", "ffv1")
VARIANTS = ("plain", "B-frames", "late start", "variable rate", "stream copy")
QUICK = [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("flv", "libx264"),
         ("ts", "libx264"), ("mpg", "mpeg2video"), ("wmv", "wmv2")]  # fmt: skip


def _cases():
    for extension, codecs in CODECS.items():
        for codec in codecs:
            marks = [] if (extension, codec) in QUICK else [pytest.mark.slow]
            for variant in VARIANTS:
                if (
                    (variant == "B-frames" and codec not in REORDERING)
                    or (variant == "variable rate" and (codec not in VARIABLE_RATE or extension in ("avi", "mpg")))
                    or (variant == "late start" and extension == "avi")  # has none but a long first frame
                    or (
                        variant == "stream copy"
                        and (extension in ("mpg", "wmv") or codec in ("flv", "wmv2", "libsvtav1"))
                    )
                    or ((variant, extension) == ("B-frames", "mpg") and codec == "mpeg1video")
                    or (
                        (variant, extension, codec)
                        in [("stream copy", "avi", "libx264"), ("stream copy", "ts", "mpeg4")]
                    )
                ):
                    continue
                yield pytest.param(extension, codec, variant, marks=marks, id=f"{extension}-{codec}-{variant}")


def _make(make_video, folder, extension, codec, variant):
    """Path of such a video, and when its frames are presented."""
    options = {"fps": FPS, "num_frames": NUM_FRAMES, "gop": 12, "codec": codec}
    times_s = [Fraction(i, FPS) for i in range(NUM_FRAMES)]
    options["pix_fmt"] = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if variant == "B-frames":
        options["bframes"] = 2
    if variant == "late start":
        options["start_s"] = 1.2
    if variant == "variable rate":
        options["times_s"] = times_s = VARIABLE
    path = folder / f"a.{extension}"
    if variant != "stream copy":
        return make_video(path, **options), times_s
    source = make_video(folder / "source.mkv", **options)
    with av.open(str(source)) as file, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(file.streams.video[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    return path, times_s


@pytest.mark.parametrize("extension, codec, variant", _cases())
def test_every_frame(make_video, read_number, tmp_path, extension, codec, variant):
    path, times = _make(make_video, tmp_path, extension, codec, variant)
    times_s, numbers = np.array(times, np.float64), list(range(len(times)))
    with open_video(path) as video:
        duration_s, fps = video.duration_s, video.fps
        frames = [(float(time_s), read_number(frame.to_ndarray(format="rgb24"))) for time_s, frame in video.frames()]
    assert [number for _, number in frames] == numbers
    np.testing.assert_allclose([time_s for time_s, _ in frames], times_s, atol=1.5e-3)
    assert duration_s == pytest.approx(times_s[-1] + 1 / FPS, abs=1.05 / FPS)
    if variant != "variable rate":
        assert fps == pytest.approx(FPS, rel=0.01)
    (clip,) = decode_clips(path, [times_s])
    assert [read_number(frame) for frame in clip] == numbers
    for number in numbers[::13]:
        (clip,) = decode_clips(path, [[times_s[number]]])
        assert read_number(clip[0]) == number
    row = examine(path, timeout_s=0)
    assert (row["error"], row["num_frames"]) == (None, len(times))

"""Fixtures that several tests share: encoded videos whose every frame says which one it is, groups of processes."""

from fractions import Fraction
from pathlib import Path

import vdet_ssl  # noqa: F401  before torch: how its threads wait has to be said first

# isort: split
import av
import numpy as np
import pytest
import torch
import torch.distributed as dist

BLOCK = 8  # pixels of a painted bit
BITS = 16  # of a painted number, and of a painted time in milliseconds


def paint_frame(number, time_s, height, width):
    """RGB uint8 (height, width, 3): a moving coloured pattern with `number` and the time in ms painted in as bits."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shift = 3.0 * number
    waves = [np.sin((x + shift) / 9) + np.cos(y / 7), np.sin((y - shift) / 11), np.cos((x + y + shift) / 13)]
    frame = np.stack([128 + 50 * wave for wave in waves], axis=-1).clip(0, 255).astype(np.uint8)
    for row, value in enumerate((number, round(time_s * 1000))):
        for bit in range(BITS):
            top, left = row * BLOCK, bit * BLOCK
            frame[top : top + BLOCK, left : left + BLOCK] = 235 if value >> bit & 1 else 16
    return frame


def _read_bits(frame, row):
    strip = np.asarray(frame)[row * BLOCK : (row + 1) * BLOCK, : BITS * BLOCK].astype(np.float32)
    blocks = strip.reshape(BLOCK, BITS, BLOCK, -1)[2:-2, :, 2:-2].mean(axis=(0, 2, 3))
    return int(sum(1 << bit for bit, level in enumerate(blocks) if level > 126))


def _encoder_options(codec, bframes, lossless, options):
    """The encoder's options (all strings) for the codecs that tests use."""
    if codec == "libx264":
        own = {
            "bf": str(bframes),
            "b_strategy": "0",
            "preset": "veryfast",
            **({"qp": "0"} if lossless else {"crf": "18"}),
        }
    elif codec == "libx265":
        params = f"log-level=none:pools=1:bframes={bframes}:b-adapt=0" + (":lossless=1" if lossless else ":crf=18")
        own = {"preset": "ultrafast", "x265-params": params}
    elif codec == "libvpx-vp9":
        own = {"cpu-used": "8", "deadline": "realtime", **({"lossless": "1"} if lossless else {"crf": "20"})}
    elif codec == "libsvtav1":
        own = {"preset": "10", "crf": "5"}
    else:
        own = {"bf": str(bframes), "qmin": "2", "qmax": "3"}
    return own | (options or {})


def _mux_silence(container, seconds):
    stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
    for i in range(seconds):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 8000 * i, Fraction(1, 8000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _make_video(
    path, fps=30, num_frames=60, *, codec="libx264", size=(96, 128), bframes=0, gop=None, lossless=False,
    pix_fmt="yuv420p", times_s=None, start_s=0.0, rotation=0, options=None, container_options=None, painter=paint_frame, sound_s=0,
):  # fmt: skip
    """Encode a video and return its path; the file's extension says which container.

    Args:
        fps: frames a second, as a number or Fraction.
        size: height and width in pixels, at least 16 x 128 for the painted bits.
        bframes: B-frames between two others, at most.
        gop: frames from one key frame to the next (default: the codec's own).
        lossless: with libx264, libx265 and libvpx-vp9: exactly the YUV pixels that went in.
        times_s: presentation time of every frame, for a variable frame rate; replaces fps and num_frames.
        start_s: presentation time of the first frame.
        rotation: display rotation written into the container, degrees counter-clockwise.
        options: further options of the encoder (str -> str); container_options: of the muxer.
        painter: (number, time_s, height, width) -> RGB uint8 (height, width, 3), or an av.VideoFrame.
        sound_s: seconds of silence in a stream of its own; 0: no such stream.
    """
    fps = Fraction(fps).limit_denominator(1001)
    time_base = 1 / fps if times_s is None else Fraction(1, 90000)
    times = [i / fps for i in range(num_frames)] if times_s is None else times_s
    height, width = size
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=_encoder_options(codec, bframes, lossless, options))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if gop is not None:
            stream.codec_context.gop_size = gop
        if rotation:
            stream.set_display_rotation(rotation)
        if sound_s:
            _mux_silence(container, sound_s)
        for number, time_s in enumerate(times):
            frame = painter(number, float(time_s), height, width)
            if not isinstance(frame, av.VideoFrame):
                frame = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pix_fmt)
            frame.pts = round(Fraction(time_s) / time_base) + round(start_s / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


@pytest.fixture(scope="session")
def make_video():
    """Function that encodes a video with numbered frames; see `_make_video` for its arguments."""
    return _make_video


@pytest.fixture(scope="session")
def read_number():
    """Function: RGB frame (H, W, 3) of a `make_video` video -> the number painted in (0 for the first frame)."""
    return lambda frame: _read_bits(frame, 0)


@pytest.fixture(scope="session")
def read_time_s():
    """Function: RGB frame (H, W, 3) of a `make_video` video -> its presentation time, to the millisecond."""
    return lambda frame: _read_bits(frame, 1) / 1000


@pytest.fixture(scope="session")
def shared_videos():
    """Folder of real videos beside the checkout; tests that ask for it skip where it does not exist."""
    folder = Path(__file__).resolve().parents[1] / "../shared/videos"
    if not folder.exists():
        pytest.skip("no ../shared/videos")
    return folder


def _in_process(rank, function, world_size, folder, args):
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # as in detectron2, where every process has a seed of its own
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    torch.save(function(*args), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def run_distributed(tmp_path_factory):
    """run(function, world_size, *args): call it in that many gloo processes; list of what each rank returns (tensors)."""

    def run(function, world_size, *args):
        folder = tmp_path_factory.mktemp("processes")
        # Forked, as the modules of tests cannot be imported by name.
        args = (function, world_size, folder, args)
        torch.multiprocessing.start_processes(_in_process, args, nprocs=world_size, start_method="fork")
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world_size)]

    return run

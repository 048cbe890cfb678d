import contextlib
import importlib.util
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from vdet_ssl.data.datasets.manifest import examine
from vdet_ssl.data.datasets.videos import load_videos
from vdet_ssl.data.video.info import Deadline
from vdet_ssl.data.video.packets import PacketReader
from vdet_ssl.data.video.reader import decode_clips, probe
from vdet_ssl.data.video.transcode import transcode
from vdet_ssl.errors import ConfigError, UserError, VideoError

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_videos.py"


@pytest.fixture
def prepare(monkeypatch, capsys):
    """Function that runs the script with arguments and returns what it printed, to stdout and to stderr."""
    spec = importlib.util.spec_from_file_location("prepare_videos", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prepare_videos", script)
    spec.loader.exec_module(script)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments), "--jobs", "2"])
        script.main()
        return capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def collection(make_video, tmp_path_factory):
    """A folder of three good videos, in sub-folders, one cut short and one that is none; and a list of them."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "run").mkdir()
    make_video(folder / "run" / "a.mp4", num_frames=45, bframes=2)
    make_video(folder / "run" / "b.mkv", num_frames=75, size=(120, 160))
    make_video(folder / "c.avi", codec="mpeg4", fps=25, num_frames=50)
    cut = make_video(folder / "run" / "cut.mkv", num_frames=60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "text.mp4").write_text("no video")
    names = ["run/a.mp4", "run/b.mkv", "c.avi", "run/cut.mkv", "text.mp4"]
    (folder / "train.csv").write_text("".join(f"{name},{label}\n" for label, name in enumerate(names)))
    return folder


def test_manifest_of_a_list(prepare, collection):
    manifest = collection / "train.parquet"
    printed = prepare(collection / "train.csv", manifest).out
    table = pd.read_parquet(manifest)
    assert table["path"].tolist() == ["run/a.mp4", "run/b.mkv", "c.avi", "run/cut.mkv", "text.mp4"]
    assert table["label"].tolist() == [0, 1, 2, 3, 4]
    assert table["num_frames"][:3].tolist() == [45, 75, 50]
    np.testing.assert_allclose(table["duration_s"][:3], [1.5, 2.5, 2.0], atol=1e-3)
    assert table[["width", "height"]][:3].to_numpy().tolist() == [[128, 96], [160, 120], [128, 96]]
    assert table["codec"][:3].tolist() == ["h264", "h264", "mpeg4"]
    assert table["checksum"].str.len().tolist() == [64] * 5 and table["checksum"].nunique() == 5
    assert table["error"].isna().tolist() == [True, True, True, False, False]
    assert "its container says 2.00 s" in table["error"][3]
    assert "broken  2" in printed and "run/cut.mkv" in printed and "text.mp4" in printed
    assert "t_mean 2.0 s" in printed
    videos = load_videos(str(manifest))
    assert [record["label"] for record in videos] == [0, 1, 2]
    assert videos[1]["duration_s"] == pytest.approx(2.5, abs=1e-3) and Path(videos[1]["file_name"]).exists()


def test_goes_on_where_it_stopped(prepare, collection, tmp_path):
    manifest = tmp_path / "train.parquet"
    prepare(collection, manifest)
    (part,) = (tmp_path / "train.parquet.parts").glob("*.jsonl")
    lines = part.read_text()
    part.write_text(lines[: lines.rindex('"error"')])  # as if the machine had gone down while the last was written
    before = pd.read_parquet(manifest)
    manifest.unlink()
    assert "1/1" in prepare(collection, manifest).err
    pd.testing.assert_frame_equal(pd.read_parquet(manifest), before)
    assert "video/s" not in prepare(collection, manifest).err  # no progress bar: nothing is left to do
    assert "2/2" in prepare(collection, manifest, "--retry-broken").err
    assert "5/5" in prepare(collection, tmp_path / "fast" / "train.parquet", "--transcode", "intra").err
    assert "5/5" in prepare(collection, tmp_path / "fast" / "train.parquet", "--transcode", "bframes").err


def test_shards_make_the_same_manifest(prepare, collection, tmp_path):
    prepare(collection, tmp_path / "whole.parquet")
    assert "2 of 5 videos are done" in prepare(collection, tmp_path / "shards.parquet", "--shard", "1/2").out
    assert not (tmp_path / "shards.parquet").exists()
    prepare(collection, tmp_path / "shards.parquet", "--shard", "0/2")
    whole, shards = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "shards"))
    pd.testing.assert_frame_equal(whole, shards)


def test_two_preparations_of_one_part_are_refused(prepare, collection, tmp_path):
    parts = tmp_path / "all.parquet.parts"
    parts.mkdir()
    hold = "import sys, time; from vdet_ssl.files import hold_lock; hold_lock(sys.argv[1], ''); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, str(parts / "0_of_2.lock")], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ConfigError, match="is being prepared already"):
            prepare(collection / "train.csv", tmp_path / "all.parquet", "--shard", "0/2")
        prepare(collection / "train.csv", tmp_path / "all.parquet", "--shard", "1/2")
        other.kill()
    prepare(collection / "train.csv", tmp_path / "all.parquet", "--shard", "0/2")
    assert (tmp_path / "all.parquet").exists()


def test_time_limit_counts_as_broken(prepare, collection, tmp_path):
    printed = prepare(collection, tmp_path / "train.parquet", "--timeout", "0.0001").out
    assert "broken  5" in printed and ("too long" in printed or "cut off" in printed)


def test_transcodes(prepare, collection, tmp_path, read_number):
    manifest = tmp_path / "fast" / "train.parquet"
    printed = prepare(collection / "train.csv", manifest, "--transcode", "bframes", "--short-side", 96).out
    assert "of before" in printed
    records = list(load_videos(str(manifest)))
    names = [Path(record["file_name"]).relative_to(tmp_path).as_posix() for record in records]
    assert names == ["fast/run/a.mp4", "fast/run/b.mp4", "fast/c.mp4"]
    assert [record["label"] for record in records] == [0, 1, 2]
    assert (probe(records[1]["file_name"]).width, probe(records[1]["file_name"]).height) == (128, 96)
    assert _numbers(records[2]["file_name"], np.arange(50) / 25, read_number) == list(range(50))


def test_does_not_overwrite_the_files_of_another_manifest(prepare, collection, tmp_path):
    prepare(collection, tmp_path / "a.parquet", "--transcode", "intra")
    with pytest.raises(UserError, match="is there already"):
        prepare(collection, tmp_path / "b.parquet", "--transcode", "bframes")


def test_does_not_overwrite_its_input(prepare, collection, tmp_path):
    """Not in the folder of the videos, nor below it, nor where a link leads to them, nor after a first run without."""
    (tmp_path / "link").symlink_to(collection)
    before = {file: file.read_bytes() for file in collection.rglob("*") if file.is_file()}
    for videos, folder, message in (
        (collection, collection, "the new files would be videos of it"),
        (collection, collection / "fast", "the new files would be videos of it"),
        (tmp_path / "link", collection, "the new files would be videos of it"),
        (collection / "train.csv", collection, "would be overwritten"),
    ):
        for options in ((), ("--transcode", "intra")):
            with pytest.raises(UserError, match=message) if options else contextlib.nullcontext():
                prepare(videos, folder / "other.parquet", *options)
    assert {file: file.read_bytes() for file in before} == before


def test_does_not_overwrite_what_it_has_not_made(prepare, collection, tmp_path):
    """Also where the manifest was begun without transcoding."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/a.mp4").write_text("mine")
    prepare(collection, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"run/a\.mp4 is there already"):
        prepare(collection, tmp_path / "a.parquet", "--transcode", "intra")
    assert (tmp_path / "run/a.mp4").read_text() == "mine"


def test_what_was_made_but_not_noted_is_made_again(prepare, collection, tmp_path):
    """The machine went down between the two."""
    prepare(collection, tmp_path / "a.parquet", "--transcode", "intra")
    (part,) = (tmp_path / "a.parquet.parts").glob("*.jsonl")
    part.write_text("".join(line for line in part.read_text().splitlines(True) if '"checksum"' not in line))
    assert "5/5" in prepare(collection, tmp_path / "a.parquet", "--transcode", "intra").err


def test_changed_files_are_looked_at_again(prepare, make_video, tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    make_video(tmp_path / "b.mp4", num_frames=10)
    prepare(tmp_path, tmp_path / "a.parquet")
    make_video(tmp_path / "a.mp4", num_frames=20)
    assert "1/1" in prepare(tmp_path, tmp_path / "a.parquet").err
    assert pd.read_parquet(tmp_path / "a.parquet")["num_frames"].tolist() == [20, 10]


def test_a_full_disk_stops_it_and_is_no_fault_of_the_videos(collection, tmp_path):
    """Files may not be larger than 8 kB, which is how a full disk looks to FFmpeg."""
    command = (
        f"ulimit -f 8; trap '' XFSZ; exec {sys.executable} {SCRIPT} {collection} {tmp_path}/a.parquet --transcode intra"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "File too large; the same command goes on from here" in done.stderr
    assert not (tmp_path / "a.parquet").exists()


def test_a_name_too_long_for_the_new_file_is_a_broken_video(prepare, make_video, tmp_path):
    """It is noted, and the others are prepared."""
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / f"{'x' * 250}.mp4", num_frames=10)
    make_video(tmp_path / "videos" / "y.mp4", num_frames=10)
    prepare(tmp_path / "videos", tmp_path / "fast/a.parquet", "--transcode", "intra")
    errors = pd.read_parquet(tmp_path / "fast/a.parquet")["error"]
    assert "File name too long" in errors[0] and errors.isna()[1]


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("prepare_videos", ["missing.csv", "a.parquet"], "missing.csv"),
        ("prepare_shards", ["missing.tar", "a.parquet"], "missing.tar"),
        (
            "prepare_proposals",
            ["--videos=x.mp4", "--output=x.csv", "--detector=none.yaml", "--weights=w.pth"],
            "none.yaml",
        ),
        ("prepare_proposals", ["--videos=.", "--output=x.csv", "--detector=none.yaml", "--weights=w.pth"], "no video"),
    ],
)
def test_an_error_of_the_user_is_one_line(tmp_path, name, arguments, message):
    command = [sys.executable, SCRIPT.with_name(f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_urls_are_refused(prepare, tmp_path):
    (tmp_path / "list.csv").write_text("s3://bucket/a.mp4\n")
    with pytest.raises(UserError, match="not those in tar files or at a URL"):
        prepare(tmp_path / "list.csv", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train.csv"], "has to end in .parquet"),
        (["train.parquet", "--shard", "2/2"], "has to be i/n"),
        (["train.parquet", "--timeout", "-1"], "--timeout is -1.0; it has to be at least 0"),
        (["train.parquet", "--short-side", "-10"], "--short-side is -10"),
        (["train.parquet", "--short-side", "96"], "--short-side needs --transcode"),
        (["train.parquet", "--transcode", "intra", "--crf", "52"], "--crf is 52"),
    ],
)
def test_bad_arguments(prepare, collection, capsys, arguments, message):
    with pytest.raises(SystemExit):
        prepare(collection, *arguments)
    assert message in capsys.readouterr().err


def _numbers(path, times_s, read_number):
    (clip,) = decode_clips(path, [np.asarray(times_s)], backend="pyav", timeout_s=0)
    return [read_number(frame) for frame in clip]


def _transcode(source, target, profile, short_side=0):
    transcode(source, target, profile=profile, short_side=short_side, crf=15, timeout_s=0)


@pytest.mark.parametrize("profile", ["bframes", "intra"])
def test_frames_keep_their_times(make_video, tmp_path, read_number, profile):
    times_s = np.cumsum([0, 40, 40, 7, 500, 33, 33, 34, 100, 3, 250, 40, 40, 1000, 20, 20, 20, 60, 90, 40]) / 1000
    source = make_video(tmp_path / "a.mkv", times_s=times_s, start_s=0.7)
    _transcode(source, tmp_path / "b.mp4", profile)
    assert _numbers(tmp_path / "b.mp4", times_s, read_number) == list(range(20))
    assert _numbers(tmp_path / "b.mp4", times_s[1:] - 0.0025, read_number) == list(range(19))


def test_structure_of_fast_decoding(make_video, tmp_path):
    """An anchor every 8 frames, a key frame every 32; B-frames refer to anchors alone."""
    _transcode(make_video(tmp_path / "a.mp4", num_frames=100), tmp_path / "b.mp4", "bframes")
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert [i for i, frame in enumerate(frames) if frame.key_frame] == [0, 32, 64, 96]
        types = "".join(av.video.frame.PictureType(frame.pict_type).name for frame in frames)
        assert types[:64] == 2 * ("I" + 3 * "BBBBBBBP" + "BBBBBBP")
    with contextlib.closing(PacketReader(str(tmp_path / "b.mp4"), Deadline(0))) as reader:
        packets = list(reader.rewind())
        reader.container.codec.skip_frame = "NONREF"
        left = [frame for packet in [*packets, None] for frame in reader.container.codec.decode(packet)]
    assert len(left) == types.count("I") + types.count("P")


def test_every_frame_is_a_key_frame(make_video, tmp_path):
    _transcode(make_video(tmp_path / "a.mp4", num_frames=20), tmp_path / "b.mp4", "intra")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert all(frame.key_frame for frame in container.decode(video=0))


def test_upright_and_small(make_video, tmp_path):
    source = make_video(tmp_path / "a.mp4", num_frames=10, rotation=90, size=(192, 256), lossless=True)
    _transcode(source, tmp_path / "b.mp4", "intra", short_side=96)
    info = probe(tmp_path / "b.mp4")
    assert (info.width, info.height, info.rotation) == (96, 128, 0)
    (old,), (new,) = (
        decode_clips(path, [np.zeros(1)], backend="pyav", timeout_s=0) for path in (source, tmp_path / "b.mp4")
    )
    averaged = old[0].reshape(128, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - new[0]).mean() < 5
    _transcode(source, tmp_path / "c.mp4", "intra", short_side=1000)  # is not enlarged
    assert probe(tmp_path / "c.mp4").width == 192


@pytest.mark.parametrize("pix_fmt, options", [("yuv420p", {"colorspace": "bt709"}), ("yuv444p10le", {})])
def test_colors_stay(make_video, tmp_path, pix_fmt, options):
    source = make_video(tmp_path / "a.mp4", num_frames=4, lossless=True, pix_fmt=pix_fmt, options=options)
    _transcode(source, tmp_path / "b.mp4", "intra")
    (old,), (new,) = (
        decode_clips(path, [np.zeros(1)], backend="pyav", timeout_s=0) for path in (source, tmp_path / "b.mp4")
    )
    assert np.abs(old.astype(float).mean(axis=(0, 1, 2)) - new.mean(axis=(0, 1, 2))).max() < 2


def test_full_range_stays_what_it_shows(make_video, tmp_path):
    source = make_video(tmp_path / "a.avi", num_frames=4, codec="mjpeg", pix_fmt="yuvj420p")
    _transcode(source, tmp_path / "b.mp4", "intra")
    (old,), (new,) = (
        decode_clips(path, [np.zeros(1)], backend="pyav", timeout_s=0) for path in (source, tmp_path / "b.mp4")
    )
    assert np.abs(old.astype(float) - new).mean() < 4


def test_broken_source_leaves_nothing_behind(make_video, tmp_path):
    source = make_video(tmp_path / "a.mkv", num_frames=60)
    source.write_bytes(source.read_bytes()[:-3000])
    (tmp_path / "new").mkdir()
    with pytest.raises(VideoError, match="a.mkv"):
        _transcode(source, tmp_path / "new" / "b.mp4", "intra")
    assert list((tmp_path / "new").iterdir()) == []


def test_examine(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", fps=Fraction(30000, 1001), num_frames=30)
    row = examine(path, timeout_s=0)
    assert row["error"] is None and row["fps"] == pytest.approx(29.97, abs=0.01)
    assert row["file_bytes"] == path.stat().st_size
    assert examine(tmp_path / "missing.mp4", timeout_s=0)["error"] == "No such file or directory"

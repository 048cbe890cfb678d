import os

import numpy as np
import pandas as pd
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from vdet_ssl.data.datasets import ensure_registered, load_videos
from vdet_ssl.data.datasets.manifest import write_manifest
from vdet_ssl.data.datasets.videos import register_builtin_videos
from vdet_ssl.errors import DataError


def _write(path, text):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "paths", "labels"),
    [
        ("a.mp4\nb c.mp4\n", ["a.mp4", "b c.mp4"], None),
        ("path\na.mp4\n", ["a.mp4"], None),
        ("path,label\r\na.mp4,3\r\nsub/b.mp4, -1\r\n", ["a.mp4", "sub/b.mp4"], [3, -1]),
        ("a.mp4 3\nb c.mp4 14", ["a.mp4", "b c.mp4"], [3, 14]),
        ('"a,b.mp4",0\nc.mp4,1\n\n', ["a,b.mp4", "c.mp4"], [0, 1]),
        ('"a,b.mp4"\nc.mp4\n', ["a,b.mp4", "c.mp4"], None),
        ('"path", "label"\n"a, ""b"".mp4",1\n', ['a, "b".mp4'], [1]),
        ("\ufeffpath label\n/films/a.mp4 7\n", ["/films/a.mp4"], [7]),
        ("s3://bucket/a.mp4\n", ["s3://bucket/a.mp4"], None),
    ],
)
def test_lists_of_videos(tmp_path, text, paths, labels):
    videos = load_videos(_write(tmp_path / "list.csv", text))
    expected = [p if p.startswith(("/", "s3://")) else str(tmp_path / p) for p in paths]
    assert [video["file_name"] for video in videos] == expected
    assert [video["video_id"] for video in videos] == [p.removesuffix(".mp4") for p in paths]
    assert [video.get("label") for video in videos] == (labels or [None] * len(paths))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path,label\na.mp4,3\nb.mp4\n", 3),
        ("a.mp4,3\n\nb.mp4,dancing\n", 3),
        ("a.mp4 3\nb.mp4,4\n", 2),
        ("a.mp4\nb.mp4 3\n", 2),
        ("a.mp4,dancing\n", 1),
        ("a.mp4\nb.mp4\nc.mp4,\n", 3),
        ("a.mp4,3\n,2\n", 2),
        ("a.mp4,3\nb.mp4,99999999999999999999\n", 2),
        ("a.mp4,3\nb\0.mp4,1\n", 2),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, text, line):
    path = _write(tmp_path / "list.txt", text)
    with pytest.raises(ValueError, match=f"{path}:{line}: "):
        load_videos(path)


def test_a_list_that_is_no_utf8_is_named_by_file_and_line(tmp_path):
    (tmp_path / "list.txt").write_bytes("a.mp4\ncafé.mp4\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list\.txt:2: byte 0xe9 is not UTF-8"):
        load_videos(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("text", ["", "\n\n", "path,label\n"])
def test_an_empty_list_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="no video"):
        load_videos(_write(tmp_path / "list.csv", text))


def test_manifest_gives_durations_and_leaves_out_broken_videos(tmp_path, caplog):
    table = {"path": ["a.mp4", "b.mp4", "c.mp4"], "duration_s": [1.5, None, 600.0], "error": [None, "cut off", ""]}
    pd.DataFrame(table).to_parquet(tmp_path / "train.parquet")
    with caplog.at_level("INFO"):
        videos = load_videos(str(tmp_path / "train.parquet"))
    assert [(v["video_id"], v["duration_s"]) for v in videos] == [("a", 1.5), ("c", 600.0)]
    assert "1 of 3 videos are left out" in caplog.text


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": ["a.mp4"]}, r"has no column \['path'\]; its columns are \['file'\]"),
        ({"path": ["a.mp4"], "shard": ["a.tar"]}, r"has no column \['num_bytes', 'offset'\]"),
        ({"path": ["a.mp4"], "label": ["waving"]}, 'the column "label" has to be int64: .*waving'),
        ({"path": ["a.mp4"], "label": [1.5]}, 'the column "label" has to be int64'),
        ({"path": [["a.mp4"]]}, 'the column "path" has to be string'),
        ({"path": ["a.mp4", "b.mp4"], "duration_s": [1.0, np.inf]}, 'the column "duration_s" is inf in row 1'),
        ({"path": ["a.mp4"], "duration_s": [-1.0]}, 'the column "duration_s" is -1.0 in row 0'),
        ({"path": ["a.mp4"], "error": ["cut off"]}, "all 1 videos are broken"),
    ],
)
def test_manifests_that_are_none_are_refused(tmp_path, columns, message):
    pd.DataFrame(columns).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"train\.parquet.*" + message):
        load_videos(str(tmp_path / "train.parquet"))


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"train\.parquet is not a parquet file, or is cut off"):
        load_videos(_write(tmp_path / "train.parquet", "path"))


def test_manifest_may_lack_durations_but_not_labels(tmp_path):
    path = tmp_path / "train.parquet"
    pd.DataFrame({"path": ["a.mp4", "b.mp4"], "duration_s": [1.5, None]}).to_parquet(path)
    assert ["duration_s" in video for video in load_videos(str(path))] == [True, False]
    pd.DataFrame({"path": ["a.mp4", "b.mp4"], "label": [1, None]}).to_parquet(path)
    with pytest.raises(ValueError, match='"label" is empty in 1 rows'):
        load_videos(str(path))


def test_manifest_beside_the_list_of_a_builtin_dataset_is_read(tmp_path):
    _write(tmp_path / "train.csv", "a.mp4\nb.mp4\n")
    register_builtin_videos("manifest_test_train", str(tmp_path / "train.csv"))
    assert len(DatasetCatalog.get("manifest_test_train")) == 2
    write_manifest(
        [{"path": "a.mp4", "video_id": "a"}, {"path": "b.mp4", "error": "cut off"}], tmp_path / "train.parquet"
    )
    assert [video["video_id"] for video in DatasetCatalog.get("manifest_test_train")] == ["a"]


def test_folder_of_videos(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("sub/b.MP4", "a.webm", "notes.txt"):
        (tmp_path / name).touch()
    assert [v["video_id"] for v in load_videos(str(tmp_path))] == ["a", "sub/b"]


def test_folders_that_are_links_belong_to_a_folder(tmp_path):
    """Each once, also where a link leads back to where it is; hidden files are half-written ones."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("videos/a.mp4", "videos/.a.partial.mp4", "elsewhere/b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "videos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "videos")
    assert [v["video_id"] for v in load_videos(str(tmp_path / "videos"))] == ["a", "more/b"]


def test_a_file_name_that_is_no_utf8_is_named(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
        pass
    with pytest.raises(ValueError, match=r"caf\\xe9\.mp4' is not UTF-8"):
        load_videos(str(tmp_path))


def test_record_outside_the_list_is_an_index_error(tmp_path):
    videos = load_videos(_write(tmp_path / "list.txt", "a.mp4\n"))
    with pytest.raises(IndexError):
        videos[1]


def test_datasets_by_name_and_by_path(tmp_path):
    path = _write(tmp_path / "list.txt", "a.mp4 1\n")
    assert ensure_registered(path) == path == ensure_registered(path)
    assert DatasetCatalog.get(path)[0]["label"] == 1
    assert MetadataCatalog.get(path).kind == "videos"
    assert ensure_registered("kinetics400_train") == "kinetics400_train"
    with pytest.raises(DataError, match="kinetics400_trian.*kinetics400_train"):
        ensure_registered("kinetics400_trian")


def test_all_usual_endings_are_videos(tmp_path):
    names = [
        f"v.{x}"
        for x in [
            "mp4",
            "webm",
            "3gp",
            "MTS",
            "m2ts",
            "ogv",
            "vob",
            "asf",
            "gif",
            "avi",
            "flv",
            "m4v",
            "mkv",
            "mov",
            "mpeg",
            "mpg",
            "ts",
            "wmv",
        ]
    ]
    for name in names:
        (tmp_path / name).touch()
    assert len(load_videos(str(tmp_path))) == len(names)


def test_what_a_folder_leaves_out_is_counted_and_said(tmp_path, caplog):
    for name in ("a.mp4", "b.TXT", "c.txt", "d.rmvb", "README", ".hidden"):
        (tmp_path / name).touch()
    with caplog.at_level("INFO"):
        assert len(load_videos(str(tmp_path))) == 1
    assert f"{tmp_path}: 4 files are left out by their ending: 2 .txt, " in caplog.text
    assert "1 .rmvb" in caplog.text and "1 without one" in caplog.text
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(DataError, match="there is no video in it; 4 files are left out by their ending: 2 .txt"):
        load_videos(str(tmp_path))

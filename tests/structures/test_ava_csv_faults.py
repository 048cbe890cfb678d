"""What people's csv files have that AVA's do not: byte order marks, spaces, tabs, pixels, boxes a hair outside, bombs."""

import gzip

import numpy as np
import pytest

from vdet_ssl.errors import AvaFormatError, DataError
from vdet_ssl.structures.ava_csv import BoxTable, read_annotations, read_boxes, read_excluded, write_parts

ROW = "v,0902,0.1,0.1,0.5,0.5,12,0\n"


@pytest.mark.parametrize("more", ["", "v,0903\n"])  # read by columns, and line by line
@pytest.mark.parametrize("start", ["", "\ufeff", " "])
def test_marks_and_spaces_are_not_of_the_ids(tmp_path, start, more):
    (tmp_path / "a.csv").write_text(f"{start}{ROW}v , 902 ,0.2,0.1,0.5,0.5, 12 , 1\n{more}", encoding="utf-8")
    table = read_boxes(tmp_path / "a.csv")
    assert table.key_frame_ids[0] == ("v", 902_000_000) and table.key.tolist() == [0, 0]
    assert table.action_id.tolist() == [12, 12]


@pytest.mark.parametrize("text", ["v,0902\n", "\ufeffv,0902\n", " v , 902 \n"])
def test_marks_and_spaces_in_excluded_timestamps(tmp_path, text):
    (tmp_path / "e.csv").write_text(text, encoding="utf-8")
    assert read_excluded(tmp_path / "e.csv") == {("v", 902_000_000)}


@pytest.mark.parametrize("mark, name", [("\t", "tabs"), (";", "semicolons")])
def test_other_separators_are_named(tmp_path, mark, name):
    (tmp_path / "a.csv").write_text(ROW.replace(",", mark))
    with pytest.raises(AvaFormatError, match=rf"a\.csv:1: its columns are separated by {name}"):
        read_boxes(tmp_path / "a.csv")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} is a folder"):
        read_boxes(tmp_path)


def test_detections_are_not_annotations(tmp_path):
    (tmp_path / "a.csv").write_text(ROW + ROW.replace(",0\n", ",0.3\n"))
    with pytest.raises(AvaFormatError, match=r"a\.csv:2: person_id is 0.3"):
        read_annotations(tmp_path / "a.csv")


def test_pixels_are_named_with_their_line(tmp_path):
    (tmp_path / "a.csv").write_text(ROW + "v,0903,10,20,300,200,12,0\n")
    with pytest.raises(AvaFormatError, match=r"a\.csv:2: box .* 10, 20, 300, 200 is not within 0..1; divide pixels"):
        read_annotations(tmp_path / "a.csv")


def test_what_a_gz_file_unpacks_to_is_bounded(tmp_path):
    rows = ROW.encode() * 2**16
    with gzip.open(tmp_path / "a.csv.gz", "wb") as f:
        for _ in range(40):
            f.write(rows)
    with pytest.raises(DataError, match=r"a\.csv\.gz unpacks to more than 67108864 bytes, 50 times its size"):
        read_boxes(tmp_path / "a.csv.gz")


def test_a_line_without_end_is_not_read_to_it(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"v" * 10_000_000)
    with pytest.raises(DataError, match=r"a\.csv has a line of more than 1048576 characters"):
        read_boxes(tmp_path / "a.csv")


def test_tables_that_are_written_one_after_the_other(tmp_path):
    one = BoxTable(
        [("v", "1")], np.zeros(2, int), np.array([[0, 0, 0.5, 1], [0, 0, 1, 1]]), np.ones(2, int), np.ones(2)
    )
    other = BoxTable([('w,"', "2")], np.zeros(1, int), np.array([[0, 0, 0.25, 1]]), np.ones(1, int), np.zeros(1))
    write_parts(tmp_path / "d.csv", iter([one, other, one.take(slice(0, 0))]))
    table = read_boxes(tmp_path / "d.csv")
    assert table.key_frames == [("v", "1"), ('w,"', "2")]
    assert table.boxes[:, 2].tolist() == [0.5, 1, 0.25] and table.score.tolist() == [1, 1, 0]

import gzip

import numpy as np
import pytest

from vdet_ssl.errors import AvaFormatError
from vdet_ssl.structures.ava_csv import (
    NO_ACTION,
    BoxTable,
    key_frame_id,
    line_of_row,
    read_boxes,
    read_excluded,
    write_boxes,
)
from vdet_ssl.structures.label_map import read_label_map

ROWS = """\
a,0902,0.1,0.2,0.3,0.4,12,0
b,902,0.5,0.5,1,1,80,1
a,0903,0,0,0.25,0.5,12,2
a,902.0,0.1,0.2,0.3,0.4,17,0
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="boxes.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("name", ["boxes.csv", "boxes.csv.gz"])
def test_columns(write, name):
    table = read_boxes(write(ROWS, name))
    assert table.key_frames == [("a", "0902"), ("b", "0902"), ("a", "0903")]  # of forms of one time the first
    assert table.key.tolist() == [0, 1, 2, 0]
    assert table.boxes.tolist() == [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1], [0, 0, 0.25, 0.5], [0.1, 0.2, 0.3, 0.4]]
    assert table.action_id.tolist() == [12, 80, 12, 17]
    assert table.score.tolist() == [0, 1, 2, 0]
    assert table.boxes.dtype == table.score.dtype == np.float64
    assert len(table.take(table.key == 0)) == 2


def test_seven_columns_have_score_1_and_no_action_is_an_action(write):
    table = read_boxes(write("a,1,0,0,1,1,\na,2,0,0,1,1,3\n"))
    assert table.score.tolist() == [1, 1]
    assert table.action_id.tolist() == [NO_ACTION, 3]


def test_mixed_rows_give_the_same_table_as_uniform_ones(write):
    uniform = read_boxes(write("a,1,0,0,1,1,3,1\nc,5,0,0,1,1,4,0.5\n"))
    mixed = read_boxes(write("a,1,0,0,1,1,3\n\nb,7\nc,5,0,0,1,1,4,0.5\n"))
    assert mixed.key_frames == [("a", "1"), ("b", "7"), ("c", "5")]
    assert mixed.key.tolist() == [0, 2]
    for name in ("boxes", "action_id", "score"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(uniform, name))


def test_empty_file(write):
    table = read_boxes(write(""))
    assert len(table) == 0 and table.boxes.shape == (0, 4) and table.key_frames == []


@pytest.mark.parametrize(
    "row, reason",
    [
        ("a,0904,0.1,0.2,0.3,0.4", "expected 7 or 8 columns .* got 6"),
        ("a,0904,0.1,0.2,0.3,0.4,1,2,3", "expected 7 or 8 columns .* got 9"),
        ("a,0904,0.1,x,0.3,0.4,12,0.5", "y1 is not a number: 'x'"),
        ("a,0904,0.1,,0.3,0.4,12,0.5", "y1 is not a number: ''"),
        ("a,0904,0.1,nan,0.3,0.4,12,0.5", "y1 is not a number: 'nan'"),
        ("a,0904,0.1,0.2,0.3,0.4,12,inf", "likelihood is not a number: 'inf'"),
        ("a,0904,0.1,0.2,0.3,0.4,walk,0.5", "action_id is not a whole number: 'walk'"),
        ("a,0904,0.1,0.2,0.3,0.4,1.5,0.5", "action_id is not a whole number: '1.5'"),
        ("a,0904,0.1,0.2,0.3,0.4,99999999999999999999,0.5", "action_id is not a whole number: '9+'"),
        ("a,then,0.1,0.2,0.3,0.4,12,0.5", "timestamp is not a number: 'then'"),
        ("a,inf,0.1,0.2,0.3,0.4,12,0.5", "timestamp is not a number: 'inf'"),
        ("a,1e300,0.1,0.2,0.3,0.4,12,0.5", "timestamp is not a number of seconds: 1e"),
    ],
)
def test_wrong_row_is_named_with_its_line(write, row, reason):
    path = write(ROWS + "\n" + row + "\n" + ROWS)
    with pytest.raises(AvaFormatError, match=rf"boxes.csv:6: {reason}"):
        read_boxes(path, score="likelihood")


@pytest.mark.parametrize("name", ["latin.csv", "plain.csv.gz", "cut.csv.gz"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    zipped = gzip.compress((1000 * (ROWS + "\n")).encode())
    content = {
        "latin.csv": "é,1,0,0,1,1,1,1".encode("latin-1"),
        "plain.csv.gz": ROWS.encode(),
        "cut.csv.gz": zipped[:-20],
    }
    (tmp_path / name).write_bytes(content[name])
    with pytest.raises(ValueError, match=f"{name} cannot be read: "):
        read_boxes(str(tmp_path / name))


def test_header_is_refused(write):
    with pytest.raises(AvaFormatError, match=":1: timestamp is not a number: 'timestamp'"):
        read_boxes(write("video_id,timestamp,x1,y1,x2,y2,action_id,score\n" + ROWS))


def test_line_of_row(write):
    path = write("a,1,0,0,1,1,3\n\nb,7\nc,5,0,0,1,1,4,0.5\n")
    assert [line_of_row(path, row) for row in range(2)] == [1, 4]


@pytest.mark.parametrize("first", ["a b", 'a, "b"'])
def test_what_is_written_is_read_to_the_last_digit(tmp_path, first):
    rng = np.random.default_rng(0)
    frames = [(first, "0902"), ("-c", "903.5"), ("d", "0902")]
    table = BoxTable(
        frames, np.sort(rng.integers(0, 3, 50)), rng.random((50, 4)), rng.integers(1, 80, 50), rng.random(50)
    )
    write_boxes(str(tmp_path / "out.csv"), table)
    again = read_boxes(str(tmp_path / "out.csv"))
    assert again.key_frames == frames
    for name in ("key", "boxes", "action_id", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))


def test_nothing_to_write(tmp_path):
    write_boxes(str(tmp_path / "out.csv"), read_boxes_of_nothing())
    assert len(read_boxes(str(tmp_path / "out.csv"))) == 0


def read_boxes_of_nothing():
    return BoxTable([], np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


def test_excluded(write):
    assert read_excluded(write("a,0902\nb,903.25\n")) == {key_frame_id("a", "902"), ("b", 903250000)}
    with pytest.raises(AvaFormatError, match="boxes.csv:2: expected video_id,timestamp, got 'b'"):
        read_excluded(write("a,0902\nb\n"))


@pytest.mark.parametrize(
    "text",
    [
        'item {\n  name: "walk"\n  id: 14\n}\nitem {\n  name: "say \\"hi\\""\n  id: 2\n}\n',
        'label {\n  name: "walk"\n  label_id: 14\n}\nlabel { name: "say \\"hi\\"" label_id: 2 label_type: PERSON_MOVEMENT }',
    ],
)
def test_label_map(write, text):
    names = read_label_map(write(text, "list.pbtxt"))
    assert list(names.items()) == [(14, "walk"), (2, 'say "hi"')]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", ":1: no class found"),
        ('item {\n  name: "walk"\n}\n', ":1: a class needs"),
        ('item {\n  name: "walk"\n  id: 1\n}\nitem {\n  name: "run"\n  id: 1\n}\n', ":5: class 1 'run' has the id"),
        ('item {\n  name: "walk"\n  id: 1\n}\nitem {\n  name: "walk"\n  id: 2\n}\n', ":5: class 2 'walk' has the id"),
    ],
)
def test_wrong_label_map(write, text, reason):
    with pytest.raises(AvaFormatError, match=reason):
        read_label_map(write(text, "list.pbtxt"))

"""What people's data sets have that AVA does not: each ends in a right result, or in one line that names the file."""

import pickle
import random
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from vdet_ssl.config import ConfigError, load_cfg
from vdet_ssl.data.build import load_test_set
from vdet_ssl.data.datasets.ava import load_ava, read_description
from vdet_ssl.data.datasets.proposals import add_proposals, check_threshold, read_proposals
from vdet_ssl.data.datasets.videos import load_videos
from vdet_ssl.errors import DataError, UserError
from vdet_ssl.structures.ava_csv import read_boxes, read_excluded
from vdet_ssl.structures.label_map import read_label_map

ROWS = "a,0902,0.1,0.2,0.3,0.4,1,0\na,0903,0.1,0.2,0.3,0.4,2,1\n"
LABEL_MAP = 'item {\n  name: "walk"\n  id: 1\n}\nitem {\n  name: "sit"\n  id: 2\n}\n'
DESCRIPTION = {"annotations": "gt.csv", "label_map": "l.pbtxt", "videos": "videos", "excluded_timestamps": "ex.csv"}
PEOPLE = "".join(f"a,{t:04d},0.1,0.2,0.3,0.4,,{s}\n" for t, s in [(902, 0.95), (903, 0.7), (904, 0.5)])


@pytest.fixture
def data_set(tmp_path):
    """Function: write a data set and return its description's path; keywords change the description."""

    def write(rows=ROWS, label_map=LABEL_MAP, **changes):
        (tmp_path / "gt.csv").write_text(rows)
        (tmp_path / "l.pbtxt").write_text(label_map)
        (tmp_path / "ex.csv").write_text("a,0999\n")
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos/a.mp4").touch()
        (tmp_path / "d.yaml").write_text(yaml.safe_dump(DESCRIPTION | changes))
        return str(tmp_path / "d.yaml")

    return write


def test_boxes_a_hair_outside_are_clipped_with_a_count(data_set, caplog):
    rows = ROWS + "a,0904,-0.019,0.2,1.05,0.4,2,1\n"
    records = load_ava(read_description(data_set(rows)))
    assert records[2]["boxes"].tolist() == [[0, 0.2, 1, 0.4]]
    assert "gt.csv: 1 of 3 boxes leave 0..1, by up to 0.05: clipped" in caplog.text
    with pytest.raises(DataError, match=r"gt\.csv:3: box .* -0.051"):
        load_ava(read_description(data_set(rows.replace("-0.019", "-0.051"))))


def test_proposals_a_hair_outside_are_clipped_with_a_count(tmp_path, caplog):
    (tmp_path / "p.csv").write_text(PEOPLE + "a,0905,0.1,-0.04,0.3,0.4,,0.9\n")
    assert read_proposals(str(tmp_path / "p.csv"))["a", 905_000_000][0, 1] == 0
    assert "p.csv: 1 of 4 boxes leave 0..1, by up to 0.04: clipped" in caplog.text


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"key_frames": [1, 5]}, r"gt\.csv: none of its 2 key frames is left: .* 902 to 903 s, .* \[1, 5\]"),
        ({"rows": ""}, r"gt\.csv names no key frame: it is empty"),
        (
            {"rows": ROWS.replace(",1,0", ",0,0").replace(",2,1", ",1,1")},
            r"gt\.csv: 1 rows have the action id 0.* shifted",
        ),
        ({"rows": ROWS.replace(",1,0", ",7,0").replace(",2,1", ",8,1")}, r"gt\.csv: no row has an action .* ids 7, 8"),
        ({"rows": ROWS.replace(",1\n", ",0.5\n")}, r"gt\.csv:2: person_id is 0.5"),
        ({"rows": ROWS.replace(",", "\t")}, r"gt\.csv:1: .* separated by tabs"),
        ({"annotations": "videos"}, "videos is a folder"),
        ({"label_map": "walk\nsit\n"}, r"l\.pbtxt:1: this looks like a text list"),
    ],
)
def test_data_sets_that_nobody_can_mean(data_set, changes, reason):
    with pytest.raises(DataError, match=reason):
        load_ava(read_description(data_set(**changes)))


def test_all_key_frames_excluded(data_set, tmp_path):
    path = data_set()
    (tmp_path / "ex.csv").write_text("\ufeffa,902\n a , 0903\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"none of its 2 key frames is left; 2 are excluded by .*ex\.csv"):
        load_ava(read_description(path))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"key_frames": ["b", "a"]}, "key_frames are the first and the last"),
        ({"key_frames": [5, 1]}, "key_frames are the first and the last"),
        ({"key_frames": 3}, "key_frames are the first and the last"),
        ({"excluded_timestamps": ["a"]}, r"excluded_timestamps is \['a'\]; it has to be a path"),
        ({"label_map": 3}, "label_map is 3; it has to be a path"),
        ({"annotations": "a\0b"}, "annotations is .* has to be a path"),
        ({"videos_start_s": True}, "videos_start_s is True"),
        ({"videos_start_s": float("nan")}, "videos_start_s is nan"),
    ],
)
def test_wrong_values_of_a_description(tmp_path, changes, reason):
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(DESCRIPTION | changes))
    with pytest.raises(DataError, match=rf"d\.yaml: .*{reason}"):
        read_description(str(tmp_path / "d.yaml"))


def test_a_key_that_is_given_twice(tmp_path):
    (tmp_path / "d.yaml").write_text("annotations: a.csv\nlabel_map: l\nvideos: v\nannotations: b.csv\n")
    with pytest.raises(DataError, match=r"d\.yaml:4: annotations is set twice"):
        read_description(str(tmp_path / "d.yaml"))


@pytest.mark.parametrize("read", [read_description, load_cfg])
def test_aliases_that_multiply_are_bounded(tmp_path, read):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"bomb\.yaml: with its aliases it stands for more than 100000 values"):
        read(str(tmp_path / "bomb.yaml"))
    (tmp_path / "bomb.yaml").write_text("a: &a [*a]\n" if read is load_cfg else "[" * 5000)
    with pytest.raises(UserError, match=r"bomb\.yaml"):
        read(str(tmp_path / "bomb.yaml"))


@pytest.mark.parametrize("ids", [(0, 1), (0, 0), (1, 2)])
def test_annotations_are_not_proposals(tmp_path, ids):
    (tmp_path / "gt.csv").write_text("".join(f"a,0902,0.{i + 1},0.2,0.8,0.4,1,{n}\n" for i, n in enumerate(ids)))
    with pytest.raises(
        DataError, match=r"gt\.csv:\d: the score is .* annotations, .*PROPOSAL_FILES_TEST to \('ground_truth',\)"
    ):
        read_proposals(str(tmp_path / "gt.csv"))


def config(path, proposals, *overrides):
    keys = ["DATASETS.TEST", (path,), "DATASETS.PROPOSAL_FILES_TEST", (proposals,), "MODEL.LOAD_PROPOSALS", True]
    return load_cfg("", [*keys, *overrides])


def test_ground_truth_as_proposals_keeps_everybody(data_set):
    path = data_set()
    for record in load_test_set(config(path, "ground_truth"), path):
        np.testing.assert_array_equal(record["proposal_boxes"], record["boxes"].astype(np.float32))
        assert record["proposal_scores"].tolist() == [1.0]


def test_how_many_people_a_threshold_drops_is_said(data_set, tmp_path, caplog):
    caplog.set_level("INFO")
    path = data_set()
    (tmp_path / "p.csv").write_text(PEOPLE)
    load_test_set(config(path, str(tmp_path / "p.csv")), path)
    assert "p.csv: 1 of 2 proposals in the data set's key frames have a score over 0.8" in caplog.text
    with pytest.raises(ConfigError, match=r"p\.csv: 0 of 2 .*PROPOSAL_SCORE_THRESH_TEST.*; the highest score is 0.95"):
        load_test_set(config(path, str(tmp_path / "p.csv"), "MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST", 0.96), path)


def test_a_score_at_the_threshold_is_not_over_it():
    records = [{"proposal_scores": np.float32([0.8])}]
    with pytest.raises(ConfigError, match="0 of 1"):
        check_threshold(records, "p.csv", 0.8, "KEY")
    check_threshold(records, "p.csv", 0.7, "KEY")


@pytest.mark.parametrize("name, content", [("p.csv", b""), ("p.pkl", pickle.dumps({}))])
def test_nobody_in_a_file_of_proposals(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    records = [{"video_id": "a", "timestamp": "0902"}]
    with pytest.raises(DataError, match=rf"{name} is empty: there is nobody in it"):
        add_proposals(records, str(tmp_path / name))


def nested(depth):
    value = [0.5] * 4
    for _ in range(depth):
        value = [value] * 4
    return value


BOMBS = {
    "memo": b"\x80\x02}r" + struct.pack("<I", 500_000_000) + b".",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 5_000_000_000) + b".",
    "nested": pickle.dumps({"a,0902": nested(14)}),
    "array": b"\x80\x02}X\x06\0\0\0a,0902cnumpy\nndarray\nJ\0\0\0\x20\x85Rs.",
    "reconstruct": b"\x80\x02}X\x06\0\0\0a,0902cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\0\0\0\x20\x85U\x01dtRs.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_pickle_takes_little_memory(tmp_path, kind):
    resource = pytest.importorskip("resource")
    (tmp_path / "p.pkl").write_bytes(BOMBS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert not any(map(len, read_proposals(str(tmp_path / "p.pkl")).values()))
    except DataError as error:
        assert "p.pkl" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_small_parquet_of_many_rows_is_refused(tmp_path):
    table = pa.table({"path": pa.array(["a.mp4"] * 1_000_000), "error": pa.nulls(1_000_000, pa.string())})
    with pq.ParquetWriter(tmp_path / "m.parquet", table.schema) as writer:
        for _ in range(21):
            writer.write_table(table)
    assert (tmp_path / "m.parquet").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"m\.parquet has 21000000 rows, the limit is 20000000"):
        load_videos(str(tmp_path / "m.parquet"))


def test_a_small_parquet_of_much_text_is_refused(tmp_path):
    indices = pa.array(np.zeros(5_000, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"path": column}), tmp_path / "m.parquet", store_schema=False)
    with pytest.raises(DataError, match=r'm\.parquet: the column "path" has 5000000000 bytes of text'):
        load_videos(str(tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    "text, labels",
    [("path,label\ra.mp4,1\rb.mp4,2\r", [1, 2]), ("\ufeffa.mp4,1\nb.mp4,2\n", [1, 2])],
)
def test_ends_of_lines_and_marks_in_lists(tmp_path, text, labels):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8", newline="")
    assert [record["label"] for record in load_videos(str(tmp_path / "l.csv"))] == labels


def test_semicolons_and_names_twice_in_lists(tmp_path, caplog):
    (tmp_path / "l.csv").write_text("path;label\na.mp4;1\n")
    with pytest.raises(DataError, match=r"l\.csv:1: path and label are separated by a semicolon"):
        load_videos(str(tmp_path / "l.csv"))
    (tmp_path / "l.csv").write_text("a.mp4,1\nb.mp4,2\na.mp4,1\n")
    assert len(load_videos(str(tmp_path / "l.csv"))) == 3
    assert "l.csv: 1 of 3 rows name a video that an earlier row names" in caplog.text


MANIFEST = pa.table(
    {
        "path": ["a.mp4", "b.mp4", "c.mp4"],
        "label": [1, 2, 3],
        "duration_s": [1.0, 2.5, None],
        "error": pa.array([None, None, None], pa.string()),
    }
)


def parquet_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(MANIFEST, sink)
    return sink.getvalue().to_pybytes()


def load_description(path):
    read_description(path)


PICKLE = pickle.dumps({f"a,{t:04d}": np.float32([[0.1, 0.2, 0.3, 0.4, 0.9]]) for t in range(902, 910)})
HEALTHY = {
    "d.yaml": (load_description, yaml.safe_dump(DESCRIPTION | {"key_frames": [902, 1798]}).encode()),
    "l.pbtxt": (read_label_map, LABEL_MAP.encode()),
    "gt.csv": (read_boxes, ROWS.encode() * 3),
    "ex.csv": (read_excluded, b"a,0902\nb,0903\n"),
    "p.csv": (read_proposals, PEOPLE.encode()),
    "p.pkl": (read_proposals, PICKLE),
    "list.csv": (load_videos, b"path,label\na.mp4,1\nb.mp4,2\nc/d.mp4,3\n"),
    "m.parquet": (load_videos, parquet_bytes()),
}


def mutate(content, rng):
    """Return bytes with something flipped, cut, doubled, filled or inserted."""
    start, length = rng.randrange(len(content)), rng.choice([1, 1, 2, 8, 40])
    part = content[start : start + length]
    inserted = rng.choice(
        [b"\0", b"\xff", b"\xef\xbb\xbf", b'"', b",", b"\n", b"\r", b"-", b"9" * 25, b"nan", b"{", b"[", b"&a *a"]
    )
    return rng.choice(
        [
            content[:start] + bytes(rng.randrange(256) for _ in part) + content[start + length :],
            content[:start],
            content[:start] + part + content[start:],
            content[:start] + content[start + length :],
            content[:start] + b"\0" * len(part) + content[start + length :],
            content[:start] + inserted + content[start:],
            content + content[start:],
        ]
    )


@pytest.mark.parametrize("name", HEALTHY)
def test_mutated_files_end_in_success_or_in_an_error_that_names_them(tmp_path, name):
    read, content = HEALTHY[name]
    path = tmp_path / name
    path.write_bytes(content)
    read(str(path))
    rng = random.Random(name)
    for _ in range(200):
        path.write_bytes(mutate(content, rng))
        try:
            read(str(path))
        except UserError as error:
            assert name in str(error) and "\n" not in str(error)


def test_mutated_annotations_end_in_records_or_in_an_error_that_names_them(data_set, tmp_path):
    description = read_description(data_set())
    rng = random.Random(0)
    for _ in range(200):
        (tmp_path / "gt.csv").write_bytes(mutate(ROWS.encode() * 3, rng))
        try:
            for record in load_ava(description):
                assert 0 <= record["boxes"].min(initial=0) and record["boxes"].max(initial=1) <= 1
        except UserError as error:
            assert "gt.csv" in str(error) and "\n" not in str(error)

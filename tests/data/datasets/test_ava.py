import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from vdet_ssl.config import get_cfg
from vdet_ssl.data.build import load_dataset
from vdet_ssl.data.datasets import dataset_metadata, ensure_registered
from vdet_ssl.data.datasets.ava import load_ava, read_description
from vdet_ssl.data.datasets.proposals import add_proposals
from vdet_ssl.engine import DetectionTrainer
from vdet_ssl.errors import AvaFormatError, DataError

ANNOTATIONS = """\
a,0902,0.1,0.2,0.3,0.4,12,0
a,0902,0.5,0.5,1,1,80,1
b.c,0903,0,0,0.25,0.5,12,2
a,0902,0.1,0.2,0.3,0.4,17,0
a,0904,0.1,0.2,0.3,0.4,3,0
a,0905,0.1,0.2,0.3,0.4,12,0
a,0999,0.1,0.2,0.3,0.4,12,0
b.c,0904
"""
LABEL_MAP = "".join(f'item {{\n  name: "class {i}"\n  id: {i}\n}}\n' for i in (17, 12, 80))


@pytest.fixture
def data_set(tmp_path):
    """Function: write an AVA-like data set and return its description's path; keywords change the description."""

    def write(rows=ANNOTATIONS, **changes):
        (tmp_path / "train.csv").write_text(rows)
        (tmp_path / "actions.pbtxt").write_text(LABEL_MAP)
        (tmp_path / "excluded.csv").write_text("a,0905\n")
        (tmp_path / "videos").mkdir(exist_ok=True)
        for name in ("a.MP4", "b.c.webm", "a.srt", "other.mp4"):
            (tmp_path / "videos" / name).touch()
        description = {
            "annotations": "train.csv",
            "label_map": "actions.pbtxt",
            "excluded_timestamps": "excluded.csv",
            "videos": "videos",
            "key_frames": [902, 904],
        }
        entries = {key: value for key, value in (description | changes).items() if value is not None}
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(entries))
        return str(tmp_path / "data.yaml")

    return write


def test_one_record_for_each_key_frame(data_set, tmp_path, caplog):
    records = load_ava(read_description(data_set()))
    assert [(r["video_id"], r["timestamp"], r["timestamp_s"]) for r in records] == [
        ("a", "0902", 902.0),
        ("b.c", "0903", 903.0),
        ("a", "0904", 904.0),
        ("b.c", "0904", 904.0),  # named without boxes
    ]  # without 0905, which is excluded, and 0999, which is out of range
    assert [Path(r["file_name"]) for r in records[:2]] == [tmp_path / "videos/a.MP4", tmp_path / "videos/b.c.webm"]
    assert {r["start_s"] for r in records} == {0.0} and "frame_rate" not in records[0]
    np.testing.assert_array_equal(records[0]["boxes"], [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1]])
    assert records[0]["classes"].tolist() == [[True, True, False], [False, False, True]]  # 17, 12, 80
    assert records[1]["classes"].tolist() == [[False, True, False]]
    assert records[3]["boxes"].shape == (0, 4) and records[3]["classes"].shape == (0, 3)


def test_action_that_is_not_listed_leaves_its_box(data_set, caplog):
    records = load_ava(read_description(data_set()))
    assert records[2]["boxes"].shape == (1, 4)
    assert records[2]["classes"].tolist() == [[False, False, False]]
    assert [r.getMessage().split("train.csv: ")[1] for r in caplog.records if r.levelname == "WARNING"] == [
        "1 of 7 rows have actions that are not in the list (3): boxes are kept"
    ]


def test_catalog_and_metadata(data_set):
    path = data_set()
    assert ensure_registered(path) == path == ensure_registered(path)
    metadata = dataset_metadata(path)
    assert metadata.kind == "key_frames"
    assert metadata.thing_classes == ["class 17", "class 12", "class 80"]
    assert metadata.thing_dataset_id_to_contiguous_id == {17: 0, 12: 1, 80: 2}
    assert metadata.description == read_description(path)
    assert len(DatasetCatalog.get(path)) == 4


def test_extracted_frames(data_set, tmp_path):
    for name in ("a", "b.c"):
        (tmp_path / "frames" / name).mkdir(parents=True)
    records = load_ava(read_description(data_set(videos=None, frames="frames", frame_rate=25, frames_start_s=900)))
    expected = {"file_name": str(tmp_path / "frames/b.c"), "start_s": 900.0, "frame_rate": 25.0}
    assert {key: records[1][key] for key in expected} == expected


def test_movies_that_were_cut(data_set):
    assert load_ava(read_description(data_set(videos_start_s=900)))[0]["start_s"] == 900.0


@pytest.mark.parametrize(
    "box, line",
    [
        ("0.5,0.5,0.5,0.9", 3),
        ("0.5,0.9,0.7,0.8", 3),
        ("-0.1,0.2,0.3,0.4", 3),
        ("0.1,0.2,0.3,1.06", 3),
        ("10,20,30,40", 3),
    ],
)
def test_wrong_box_is_named_with_its_line(data_set, box, line):
    description = read_description(data_set(f"a,0902,0,0,1,1,12,0\n\na,0903,{box},12,0\n"))
    with pytest.raises(
        AvaFormatError, match=rf"train.csv:{line}: box x1, y1, x2, y2 = {box.replace(',', ', ')} is not"
    ):
        load_ava(description)


def test_missing_movies_are_listed(data_set, tmp_path):
    rows = "".join(f"movie{i},0902,0,0,1,1,12,0\n" for i in range(9)) + ANNOTATIONS
    with pytest.raises(DataError, match=r"names 11 videos, 9 of .*videos: movie0, movie1, .*movie4, \.\.\.") as e:
        load_ava(read_description(data_set(rows)))
    assert str(tmp_path / "videos") in str(e.value)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_ava(read_description(data_set(videos="nowhere")))


def test_two_movies_of_one_name(data_set, tmp_path):
    path = data_set()
    (tmp_path / "videos/a.mkv").touch()
    with pytest.raises(ValueError, match="several movies of a: a.mkv and a.MP4"):
        load_ava(read_description(path))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"anotations": "x.csv"}, "unknown key 'anotations'; did you mean annotations"),
        ({"annotations": None}, "annotations"),
        ({"videos": None}, "either videos or frames"),
        ({"frames": "frames"}, "either videos or frames"),
        ({"videos": None, "frames": "frames"}, "frame_rate"),
        ({"key_frames": [902]}, "key_frames"),
    ],
)
def test_wrong_description(data_set, changes, reason):
    path = data_set(**changes)
    with pytest.raises(ValueError, match=f"data.yaml.*{reason}"):
        read_description(path)


def test_empty_description(tmp_path):
    (tmp_path / "data.yaml").write_text("train.csv")
    with pytest.raises(AvaFormatError, match="data.yaml:1: expected keys and values"):
        read_description(str(tmp_path / "data.yaml"))


def test_official_sets_are_registered():
    for version in ("v2.1", "v2.2"):
        for split in ("train", "val"):
            description = MetadataCatalog.get(f"ava_{version}_{split}").description
            assert description.annotations.endswith(f"ava/annotations/ava_{split}_{version}.csv")
            assert description.excluded_timestamps.endswith(f"ava_{split}_excluded_timestamps_{version}.csv")
            assert description.is_key_frame(902) and description.is_key_frame(1798)
            assert not description.is_key_frame(901) and not description.is_key_frame(1799)
            frames = MetadataCatalog.get(f"ava_{version}_{split}_frames").description
            assert (frames.frame_rate, frames.frames_start_s, frames.videos) == (30.0, 900.0, None)


PEOPLE = np.float32([[0.1, 0.2, 0.3, 0.4, 0.9], [0.5, 0.5, 1.0, 1.0, 0.25]])


def records_of(*key_frames):
    return [{"video_id": video_id, "timestamp": timestamp} for video_id, timestamp in key_frames]


def test_proposals_in_pyslowfasts_csv(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(
        "b,0902,0.5,0.5,1.002,1,,0.3\n"
        "a,0902,0.1,0.2,0.3,0.4,12,0.9\n"
        "a,0902,0.1,0.2,0.3,0.4,17,0.9\n"  # the same person, doing something else
        "c,0902,0.5,0.5,0.5,1,,0.3\n"
        "a,0902,0.5,0.5,1,1,-1,0.25\n"
    )
    records = records_of(("a", "902"), ("b", "0902"), ("c", "0902"), ("d", "0902"))
    records = add_proposals(records, str(path))
    np.testing.assert_array_equal(
        np.column_stack([records[0]["proposal_boxes"], records[0]["proposal_scores"]]), PEOPLE
    )
    assert records[1]["proposal_boxes"].tolist() == [[0.5, 0.5, 1.0, 1.0]]  # clipped
    assert records[2]["proposal_boxes"].shape == records[3]["proposal_boxes"].shape == (0, 4)  # no area; nobody
    assert records[0]["proposal_boxes"].dtype == records[3]["proposal_scores"].dtype == np.float32


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_proposals_in_mmaction2s_pickle(tmp_path, protocol):
    people = OrderedDict({"a,0902": PEOPLE, "b,0902": PEOPLE[:, :4].astype(np.float64), "c,0902": np.zeros((0, 5))})
    path = tmp_path / "people.pkl"
    path.write_bytes(pickle.dumps(dict(people), protocol=protocol))
    records = records_of(("a", "0902"), ("b", "902"), ("c", "0902"))
    records = add_proposals(records, str(path))
    np.testing.assert_array_equal(
        np.column_stack([records[0]["proposal_boxes"], records[0]["proposal_scores"]]), PEOPLE
    )
    np.testing.assert_array_equal(records[1]["proposal_boxes"], PEOPLE[:, :4])
    assert records[1]["proposal_scores"].tolist() == [1.0, 1.0]
    assert len(records[2]["proposal_boxes"]) == 0


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickle_runs_no_code(tmp_path):
    harm, path = tmp_path / "harm", tmp_path / "people.pkl"
    path.write_bytes(pickle.dumps({"a,0902": Payload(harm)}))
    with pytest.raises(
        ValueError, match=r"people.pkl is not a pickle of numpy arrays .* it holds pathlib.* only numpy arrays"
    ):
        add_proposals(records_of(("a", "0902")), str(path))
    assert not harm.exists()
    pickle.loads(path.read_bytes())
    assert harm.exists()  # the file would have


@pytest.mark.parametrize(
    "content, reason",
    [
        ([PEOPLE], "not a pickle of a dict"),
        ({"a": PEOPLE}, "'a'"),
        ({"a,0902": PEOPLE[:, :3]}, r"'a,0902': boxes have to be an array \(M, 4\)"),
        ({"a,0902": 100 * PEOPLE}, r"'a,0902': boxes have to be an array \(M, 4\)"),
        ({"a,0902": np.float32([[0, 0, 1, np.nan]])}, "'a,0902'"),
        ({"a,0902": "people"}, "'a,0902'"),
    ],
)
def test_wrong_pickle(tmp_path, content, reason):
    path = tmp_path / "people.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"people.pkl.*{reason}"):
        add_proposals(records_of(("a", "0902")), str(path))


def test_damaged_pickle(tmp_path):
    path = tmp_path / "people.pkl"
    path.write_bytes(pickle.dumps({"a,0902": PEOPLE})[:-20])
    with pytest.raises(ValueError, match="people.pkl is not a pickle"):
        add_proposals(records_of(("a", "0902")), str(path))


def test_proposals_in_pixels(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("a,0902,0.1,0.2,0.3,0.4,,0.9\n\na,0902,10,20,30,40,,0.9\n")
    with pytest.raises(AvaFormatError, match="people.csv:3: the box is not within 0..1"):
        add_proposals(records_of(("a", "0902")), str(path))


def test_proposals_of_other_videos(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("z,0902,0.1,0.2,0.3,0.4,,0.9\n")
    with pytest.raises(ValueError, match=r"none of the 1 key frames .*'a,0902'.*\('z', 902000000\)"):
        add_proposals(records_of(("a", "0902")), str(path))


@pytest.fixture
def loader_config(tmp_path, make_video):
    """Config of a data set of two key frames in one movie, with detected people in one of them."""
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/a.mp4", 30, 60, size=(96, 128))
    (tmp_path / "gt.csv").write_text("a,1,0.1,0.2,0.3,0.4,12,0\na,0.5,0.1,0.2,0.3,0.4,17,0\n")
    (tmp_path / "people.csv").write_text("a,0001,0.5,0.25,1,1,,0.9\n")
    (tmp_path / "actions.pbtxt").write_text(LABEL_MAP)
    description = {"annotations": "gt.csv", "label_map": "actions.pbtxt", "videos": "videos"}
    (tmp_path / "val.yaml").write_text(yaml.safe_dump(description))
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.MIN_SIZE_TEST = 2, 96
    cfg.MODEL.LOAD_PROPOSALS = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (str(tmp_path / "val.yaml"),)
    cfg.DATASETS.PROPOSAL_FILES_TEST = (str(tmp_path / "people.csv"),)
    return cfg


def test_loaders_give_detected_people(loader_config):
    cfg = loader_config
    (batch,) = DetectionTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
    assert [sample["timestamp"] for sample in batch] == ["1", "0.5"]
    assert batch[0]["proposals"].proposal_boxes.tensor.tolist() == [[64.0, 24.0, 128.0, 96.0]]
    assert len(batch[1]["proposals"]) == 0
    train = next(iter(DetectionTrainer.build_train_loader(cfg)))
    assert [len(sample["instances"]) <= 1 and "proposals" not in sample for sample in train] == [True, True]


def test_training_sees_boxes_rounded_to_float32(loader_config):
    """So it is the same to the bit as when the data set itself gave float32."""
    cfg = loader_config
    (record,) = (r for r in load_dataset(cfg.DATASETS.TRAIN[0]) if r["timestamp"] == "1")
    assert record["boxes"].dtype == np.float64
    boxes = np.sort(np.random.default_rng(0).random((100, 2, 2)), axis=1).reshape(-1, 4)
    mapper = DetectionTrainer.build_mapper(cfg, is_train=True)
    exact, rounded = (
        mapper({**record, "boxes": own, "classes": np.ones((100, 3), bool)}, np.random.default_rng(0))["instances"]
        for own in (boxes, boxes.astype(np.float32).astype(np.float64))
    )
    assert torch.equal(exact.gt_boxes.tensor, rounded.gt_boxes.tensor)


def test_one_file_of_detected_people_for_each_data_set(loader_config):
    cfg = loader_config
    cfg.DATASETS.PROPOSAL_FILES_TEST *= 2
    with pytest.raises(ValueError, match="PROPOSAL_FILES_TEST has 2 files, DATASETS.TEST 1 data sets"):
        DetectionTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])

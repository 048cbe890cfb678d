"""Data sets that a user registers in detectron2's way: records in DatasetCatalog, classes in MetadataCatalog."""

import copy
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from vdet_ssl.config import load_cfg
from vdet_ssl.data.datasets import action_names, dataset_kind, ensure_registered, load_records
from vdet_ssl.engine.detection_trainer import DetectionTrainer
from vdet_ssl.errors import DataError

RECORD = {"video_id": "v", "timestamp": 2, "file_name": "v.mp4", "boxes": [[0, 0, 0.5, 1]], "classes": [[1]]}


@pytest.fixture
def register(request):
    """Function: register records, with this metadata, and return the data set's name."""
    name = f"registered_{request.node.originalname}"

    def register(records, **metadata):
        DatasetCatalog.register(name, lambda: copy.deepcopy(records))
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield register
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_records_and_class_names_are_enough(register):
    name = register([RECORD], thing_classes=["sit", "walk"])
    (record,) = load_records(name)
    assert (record["timestamp"], record["timestamp_s"], record["start_s"]) == ("2", 2.0, 0.0)
    np.testing.assert_array_equal(record["boxes"], [[0, 0, 0.5, 1]])
    np.testing.assert_array_equal(record["classes"], [[False, True]])
    assert action_names(name) == {1: "sit", 2: "walk"}


def test_action_ids_are_those_of_the_metadata_in_the_order_of_the_classes(register):
    name = register([RECORD], thing_classes=["sit", "walk"], thing_dataset_id_to_contiguous_id={4: 1, 80: 0})
    assert list(action_names(name).items()) == [(80, "sit"), (4, "walk")]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, r"needs classes, each once: MetadataCatalog.get\('registered_.*'\).set\(thing_classes="),
        ({"thing_classes": ["sit", "sit"]}, "needs classes, each once"),
        ({"thing_classes": ["sit"]}, r"record 0, video_id 'v': class index \[1\] is out of range"),
        (
            {"thing_classes": ["sit", "walk"], "thing_dataset_id_to_contiguous_id": {1: 1, 2: 2}},
            "thing_dataset_id_to_contiguous_id has to give the classes 0 to 1, each once",
        ),
    ],
)
def test_classes_that_are_missing_or_wrong(register, metadata, reason):
    name = register([RECORD], **metadata)
    with pytest.raises(DataError, match=f"{name}.*{reason}"):
        load_records(name)


def test_key_frames_without_boxes_are_refused_where_the_metadata_says_that_they_are_key_frames(register):
    record = {key: value for key, value in RECORD.items() if key != "boxes"}
    name = register([record], thing_classes=["sit", "walk"], kind="key_frames")
    with pytest.raises(DataError, match="record 0, video_id 'v': it has no boxes"):
        load_records(name)


def test_records_of_videos_stay_as_they_are(register):
    records = [{"file_name": "v.mp4", "label": 3}]
    assert load_records(register(records, thing_classes=["sit", "walk"])) == records


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"file_name": Path("v.mp4")}, "file_name is not a str: PosixPath"),
        ({"file_name": None}, "file_name is not a str: None"),
        ({"video_id": "v"}, "file_name is not a str: None"),
        ({"file_name": "v.mp4", "label": "3"}, "label is not an integer: '3'"),
        ({"file_name": "v.mp4", "duration_s": "3"}, "duration_s is not a number of seconds: '3'"),
        ({"file_name": "v.mp4", "duration_s": float("nan")}, "duration_s is not a number of seconds: nan"),
        ("v.mp4", "it is a str; a record of a video is a dict"),
    ],
)
def test_a_record_of_a_video_that_is_wrong_is_named(register, record, reason):
    name = register([{"file_name": "u.mp4", "label": 0, "duration_s": None}, record])
    with pytest.raises(DataError, match=f"{name}: record 1: {reason}"):
        load_records(name)


@pytest.mark.parametrize("records", [{"v.mp4": 1}, "v.mp4", {1, 2}, 3, None])
def test_records_that_are_not_a_list_are_refused(register, records):
    name = register(records)
    with pytest.raises(DataError, match=f"{name}: its records are a .*; they have to be a list of dicts"):
        load_records(name)


@pytest.mark.parametrize("file_name", [Path("v.mp4"), None])
def test_a_key_frame_whose_file_name_is_not_text_is_named(register, file_name):
    name = register([{**RECORD, "file_name": file_name}], thing_classes=["sit", "walk"])
    with pytest.raises(DataError, match=f"{name}: record 0, video_id 'v': file_name is not a str"):
        load_records(name)


def test_the_detector_refuses_records_of_videos(register):
    name = register([{"file_name": "v.mp4", "label": 0}])
    with pytest.raises(DataError, match=f'{name}: record 0 has no "boxes", ActionDetector takes records of key frames'):
        DetectionTrainer.check_datasets(load_cfg("", ["MODEL.META_ARCHITECTURE", "ActionDetector"]), [name])


def test_a_data_set_without_records_is_refused(register):
    with pytest.raises(DataError, match="has no records"):
        load_records(register([]))


def test_a_file_that_is_missing_is_named(tmp_path):
    path = str(tmp_path / "nowhere.yaml")
    with pytest.raises(DataError, match=rf"{path} in DATASETS.TRAIN or TEST: {path}: No such file or directory"):
        load_records(path)
    description = "annotations: gt.csv\nlabel_map: nowhere.pbtxt\nvideos: .\n"
    (tmp_path / "mine.yaml").write_text(description)
    with pytest.raises(DataError, match="mine.yaml in DATASETS.TRAIN or TEST: .*nowhere.pbtxt: No such file"):
        load_records(str(tmp_path / "mine.yaml"))


def test_an_unknown_name_lists_data_sets_of_videos_and_of_users_alone(register):
    name = register([RECORD])
    with pytest.raises(DataError) as error:
        ensure_registered("ava_v2.2_vall")
    listed = str(error.value).split("Registered are: ")[1].split(", ")
    assert {"ava_v2.2_val", "kinetics400_train", name} <= set(listed)
    assert not any(other.startswith(("coco", "lvis", "voc", "cityscapes")) for other in listed)


def test_the_kind_is_known_without_a_file():
    assert (dataset_kind("ava_v2.2_val"), dataset_kind("kinetics400_train")) == ("key_frames", "videos")

import json
import logging
import math

import numpy as np
import pytest
import torch
from detectron2.evaluation.testing import print_csv_format
from detectron2.structures import Boxes, Instances

from vdet_ssl.config import get_cfg
from vdet_ssl.data.datasets.ava import AvaDescription, load_ava, register_ava
from vdet_ssl.engine import DetectionTrainer
from vdet_ssl.evaluation.ava_evaluator import AVAEvaluator
from vdet_ssl.metrics.ava import evaluate_files
from vdet_ssl.structures.ava_csv import read_boxes

NAMES = {3: "walk", 1: "sit", 8: "say", 9: "never"}
SIZE = (120, 200)  # height, width


@pytest.fixture
def description(tmp_path):
    """A data set of 6 key frames: one is excluded, one out of range; people do one to three of three actions."""
    rng = np.random.default_rng(0)
    rows = []
    for video_id in ("a", "b"):
        (tmp_path / f"{video_id}.mp4").touch()
        for second in (10, 11, 12):
            for person in range(3):
                x, y, w, h = rng.uniform(0, 0.2, 4)
                box = [0.3 * person + x / 4, y, 0.3 * person + x / 4 + 0.1 + w / 2, y + 0.4 + h]
                box = ",".join(f"{value:.3f}" for value in box)
                for action in rng.choice([1, 3, 8], rng.integers(1, 4), replace=False):
                    rows.append(f"{video_id},{second:04d},{box},{action},{person}")
    (tmp_path / "gt.csv").write_text("\n".join(rows))
    (tmp_path / "excluded.csv").write_text("a,0010\n")
    items = (f'item {{\n  name: "{name}"\n  id: {i}\n}}\n' for i, name in NAMES.items())
    (tmp_path / "list.pbtxt").write_text("".join(items))
    return AvaDescription(
        annotations=str(tmp_path / "gt.csv"),
        label_map=str(tmp_path / "list.pbtxt"),
        excluded_timestamps=str(tmp_path / "excluded.csv"),
        videos=str(tmp_path),
        key_frames=(10, 11),
    )


@pytest.fixture
def evaluator(description, tmp_path):
    return evaluator_of(description, tmp_path / "out")


def evaluator_of(description, output_dir, capacity=50):
    return AVAEvaluator(load_ava(description), class_names=NAMES, capacity=capacity, output_dir=str(output_dir))


def truth_as_results(description):
    """The inputs and outputs of a detector that is always right."""
    inputs, outputs = [], []
    for record in load_ava(description):
        boxes = Boxes(torch.from_numpy(record["boxes"].astype(np.float32)) * torch.tensor([SIZE[1], SIZE[0]] * 2))
        scores = torch.from_numpy(record["classes"].astype(np.float32))
        inputs.append({"video_id": record["video_id"], "timestamp": record["timestamp"]})
        outputs.append({"instances": Instances(SIZE, pred_boxes=boxes, scores=scores)})
    return inputs, outputs


def noisy(outputs, seed=0):
    torch.manual_seed(seed)
    for output in outputs:
        instances = output["instances"]
        boxes = Boxes(instances.pred_boxes.tensor + 8 * torch.randn(len(instances), 4))
        scores = (instances.scores + torch.randn_like(instances.scores)).sigmoid()
        output["instances"] = Instances(SIZE, pred_boxes=boxes, scores=scores)
    return outputs


def test_ground_truth_as_detections_scores_1(evaluator, description):
    evaluator.process(*truth_as_results(description))
    results = evaluator.evaluate()
    assert list(results) == ["AVA"]
    assert list(results["AVA"]) == ["mAP", "AP/walk", "AP/sit", "AP/say", "AP/never"]
    assert [results["AVA"]["mAP"], results["AVA"]["AP/say"]] == pytest.approx([1, 1], abs=1e-12)
    assert math.isnan(results["AVA"]["AP/never"])
    print_csv_format(results)  # what detectron2 does with them


@pytest.mark.parametrize("capacity", [0, 5, 50])
def test_files_give_the_same_figures(description, tmp_path, capacity, caplog):
    evaluator = evaluator_of(description, tmp_path / "out", capacity)
    inputs, outputs = truth_as_results(description)
    evaluator.process(inputs, noisy(outputs))
    with caplog.at_level(logging.INFO):
        results = evaluator.evaluate()["AVA"]
    assert ("as in the official evaluator" in caplog.text) == (capacity == 50)
    # out of range key frames are excluded by the evaluator alone
    (tmp_path / "excluded.csv").write_text("a,0010\na,0012\nb,0012\n")
    files = [description.annotations, tmp_path / "out/detections.csv", description.label_map]
    again = evaluate_files(*files, capacity, description.excluded_timestamps)
    assert 0 < results["mAP"] < 1
    assert again.mean_ap == results["mAP"]
    assert json.loads((tmp_path / "out/results.json").read_text()) == again.as_dict()
    assert {f"AP/{name}": ap for name, ap in again.ap.items() if ap is not None}.items() <= results.items()


def test_written_detections(evaluator, description, tmp_path):
    inputs, outputs = truth_as_results(description)
    outputs = noisy(outputs)
    evaluator.process(inputs, outputs)
    evaluator.evaluate()
    table = read_boxes(tmp_path / "out/detections.csv")
    assert table.key_frames == [("a", "0011"), ("b", "0010"), ("b", "0011")]
    assert len(table) == 3 * 3 * len(NAMES)
    assert set(table.action_id.tolist()) == set(NAMES)
    first = outputs[0]["instances"]
    np.testing.assert_allclose(table.boxes[0], first.pred_boxes.tensor[0].numpy() / [200, 120, 200, 120], atol=1e-5)
    np.testing.assert_allclose(table.score[:4], first.scores[0].numpy(), atol=1e-8)
    assert table.action_id[:4].tolist() == list(NAMES)


def test_padding_does_not_count_twice(evaluator, description):
    inputs, outputs = truth_as_results(description)
    outputs = noisy(outputs)
    evaluator.process(inputs, outputs)
    once = evaluator.evaluate()
    evaluator.process(inputs[:2], outputs[:2])
    assert evaluator.evaluate()["AVA"]["mAP"] == once["AVA"]["mAP"]
    evaluator.reset()
    evaluator.process(inputs[1:], outputs[1:])
    assert evaluator.evaluate()["AVA"]["mAP"] < once["AVA"]["mAP"]


def test_two_processes_give_what_one_gives(evaluator, description, run_distributed, tmp_path):
    inputs, outputs = truth_as_results(description)
    outputs = noisy(outputs)
    evaluator.process(inputs, outputs)
    alone = evaluator.evaluate()["AVA"]

    def evaluate():
        rank = torch.distributed.get_rank()
        own = evaluator_of(description, tmp_path / "two")
        own.process(inputs[rank::2] + inputs[:1], outputs[rank::2] + outputs[:1])  # padded
        return dict(own.evaluate())

    first, second = run_distributed(evaluate, 2)
    assert first["AVA"]["mAP"] == alone["mAP"] and second == {}
    assert (tmp_path / "two/detections.csv").read_text() == (tmp_path / "out/detections.csv").read_text()


def test_key_frames_that_were_not_evaluated_are_said(evaluator, description, caplog):
    inputs, outputs = truth_as_results(description)
    evaluator.process(inputs[1:], outputs[1:])
    with caplog.at_level(logging.WARNING):
        assert evaluator.evaluate()["AVA"]["mAP"] < 1
    assert "not run on 1 of 3 key frames of the ground truth, like ['a,0011']" in caplog.text


def test_no_people_at_all(evaluator, description, caplog):
    inputs, outputs = truth_as_results(description)
    nobody = [
        {"instances": output["instances"][torch.zeros(len(output["instances"]), dtype=torch.bool)]}
        for output in outputs
    ]
    evaluator.process(inputs, nobody)
    with caplog.at_level(logging.WARNING):
        assert evaluator.evaluate()["AVA"]["mAP"] == 0.0
    assert "no detections at all" in caplog.text


def test_detector_with_another_number_of_classes(evaluator, description):
    inputs, outputs = truth_as_results(description)
    for output in outputs:
        output["instances"].scores = output["instances"].scores[:, :3]
    evaluator.process(inputs, outputs)
    with pytest.raises(ValueError, match="scores for 3 classes, the data set's list has 4"):
        evaluator.evaluate()


def test_from_config(description, tmp_path):
    register_ava("test_ava_evaluator", description)
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.AVA_CAPACITY = 7
    evaluator = DetectionTrainer.build_evaluator(cfg, "test_ava_evaluator")
    assert isinstance(evaluator, AVAEvaluator)
    assert evaluator.capacity == 7
    assert list(evaluator.class_names.items()) == list(NAMES.items())
    assert [evaluator.records[i]["timestamp"] for i in range(3)] == ["0011", "0010", "0011"]
    assert evaluator.output_dir == str(tmp_path / "inference/test_ava_evaluator")

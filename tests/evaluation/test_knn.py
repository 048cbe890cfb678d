"""kNN accuracy: the votes against a loop written from their formula, and evaluations of real videos."""

import math

import numpy as np
import pytest
import torch
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model

import vdet_ssl.modeling  # noqa: F401 (fills the registries)
from vdet_ssl.config import get_cfg
from vdet_ssl.engine import SSLTrainer
from vdet_ssl.errors import ConfigError
from vdet_ssl.evaluation.knn import FeatureCollector, knn_scores


def naive_scores(queries, bank, targets, num_classes, k, temperature, leave_one_out):
    """score[i, c] = sum of exp(cos(q_i, b_j) / temperature) over those of the k nearest j with class c."""
    scores = np.zeros((len(queries), num_classes))
    for i, q in enumerate(queries):
        cosines = [(float(q @ b / math.sqrt((q @ q) * (b @ b))), j) for j, b in enumerate(bank)]
        if leave_one_out:
            del cosines[i]
        for cosine, j in sorted(cosines, reverse=True)[:k]:
            scores[i, targets[j]] += math.exp(cosine / temperature)
    return scores


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("k", [1, 4, 1000])
def test_votes_equal_the_naive_loop(k, leave_one_out, monkeypatch):
    monkeypatch.setattr("vdet_ssl.evaluation.knn._QUERIES_AT_ONCE", 7)
    rng = torch.Generator().manual_seed(k)
    bank = torch.randn(30, 5, generator=rng, dtype=torch.float64)
    queries = bank if leave_one_out else torch.randn(23, 5, generator=rng, dtype=torch.float64)
    targets = torch.randint(3, (30,), generator=rng)
    kwargs = {"num_classes": 3, "k": k, "temperature": 0.1, "leave_one_out": leave_one_out}
    expected = naive_scores(queries.numpy(), bank.numpy(), targets.numpy(), **kwargs)
    np.testing.assert_allclose(knn_scores(queries, bank, targets, **kwargs).numpy(), expected, rtol=1e-9)


@pytest.fixture(scope="module")
def world(make_video, tmp_path_factory):
    """Folder with train.csv (9 labelled videos), test.csv (5) and unlabelled.csv; a class is a colour, seen roughly."""
    folder = tmp_path_factory.mktemp("world")
    labels = [7, -2, 1000]
    lists = {"train": [], "test": []}
    for i in range(14):
        rng = np.random.default_rng(i)
        color = np.eye(3)[i % 3] * 120 + rng.uniform(0, 100, 3)

        def paint(number, time_s, height, width, rng=rng, color=color):
            return (color + rng.normal(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)

        make_video(folder / f"{i}.mp4", num_frames=12, size=(40, 128), painter=paint)
        lists["train" if i < 9 else "test"].append(f"{i}.mp4,{labels[i % 3]}")
    for name, lines in lists.items():
        (folder / f"{name}.csv").write_text("\n".join(lines))
    (folder / "unlabelled.csv").write_text("\n".join(line.split(",")[0] for line in lists["train"]))
    return folder


def config(world, train, test):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 4
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.SAMPLING_RATE = 2, 4
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.CROP.SIZE = 32, [32, 32]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATASETS.TRAIN = (str(world / f"{train}.csv"),)
    cfg.DATASETS.TEST = (str(world / f"{test}.csv"),)
    cfg.TEST.IMS_PER_BATCH = 2
    cfg.TEST.KNN.K = 4
    return cfg


def evaluate(cfg):
    """kNN top-1 of a tiny model whose weights follow from a seed, as the trainer computes it."""
    torch.manual_seed(0)
    model = build_model(cfg)
    evaluator = SSLTrainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    evaluator.fill_bank(model)
    results = inference_on_dataset(model, SSLTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]), evaluator)
    return torch.tensor(results["knn"]["top1"] if results else -1.0)


def features_and_labels(cfg, name):
    torch.manual_seed(0)
    features, labels = inference_on_dataset(
        build_model(cfg), SSLTrainer.build_test_loader(cfg, name), FeatureCollector()
    )
    return features.double().numpy(), labels.tolist()


@pytest.mark.parametrize(
    "train, test, leave_one_out", [("train", "test", False), ("unlabelled", "train", True), ("train", "train", True)]
)
def test_accuracy_on_videos(world, train, test, leave_one_out):
    """Neighbours are the labelled training videos; without any, or if they are the test videos, the other test videos."""
    cfg = config(world, train, test)
    queries, labels = features_and_labels(cfg, cfg.DATASETS.TEST[0])
    bank, bank_labels = features_and_labels(cfg, str(world / "train.csv"))
    classes = sorted({*labels, *bank_labels})
    targets = [classes.index(label) for label in bank_labels]
    scores = naive_scores(queries, bank, targets, len(classes), 4, 0.1, leave_one_out)
    expected = np.mean([classes[i] == label for i, label in zip(scores.argmax(1), labels, strict=True)])
    assert evaluate(cfg).item() == pytest.approx(100 * expected, abs=1e-3)  # a fraction of at most 9 videos, in float32
    assert expected > 0.5  # colours are told apart, even by random weights


@pytest.mark.parametrize("train, test", [("train", "test"), ("unlabelled", "train")])
def test_two_processes_find_the_same(world, train, test, run_distributed):
    cfg = config(world, train, test)
    results = [x.item() for x in run_distributed(evaluate, 2, cfg)]
    assert results == pytest.approx([evaluate(cfg).item(), -1.0], abs=1e-3)


def test_a_test_set_without_labels_is_refused_before_anything_is_decoded(world):
    cfg = config(world, "train", "unlabelled")
    with pytest.raises(ConfigError, match=r"needs labels, and .*unlabelled\.csv in DATASETS\.TEST has none"):
        SSLTrainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])


def test_one_video_without_others_to_compare_it_with_is_refused(world):
    (world / "one.csv").write_text("0.mp4,1\n")
    cfg = config(world, "unlabelled", "one")
    with pytest.raises(ConfigError, match=r"one\.csv has one video"):
        SSLTrainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])

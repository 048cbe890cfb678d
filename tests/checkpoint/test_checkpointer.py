import logging
import pickle

import pytest
import torch
from torch import nn

from vdet_ssl.checkpoint import VideoCheckpointer, load_whole_model
from vdet_ssl.errors import CheckpointError


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv3d(3, 8, 1), nn.BatchNorm3d(8))
        self.projector = nn.Linear(8, 4)


class Method(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.momentum_encoder = Encoder(), Encoder()


class Detector(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv3d(3, channels, 1), nn.BatchNorm3d(channels))
        self.predictor = nn.Linear(channels, 2)


def save(tmp_path, model):
    torch.save({"model": model.state_dict()}, tmp_path / "pretrained.pth")
    return str(tmp_path / "pretrained.pth")


def load(model, path, **kwargs):
    VideoCheckpointer(model, **{"min_coverage": 0.95, **kwargs}).load(path, checkpointables=[])


def test_a_detector_takes_the_online_encoders_backbone_and_the_table_says_so(tmp_path, caplog):
    method, detector = Method(), Detector()
    predictor = detector.predictor.weight.clone()
    with caplog.at_level(logging.INFO):
        load(detector, save(tmp_path, method))
    for name, value in detector.backbone.state_dict().items():
        assert torch.equal(value, method.encoder.backbone.state_dict()[name])
    assert torch.equal(detector.predictor.weight, predictor)
    rows = {line.split("|")[1].strip(): line for line in caplog.text.splitlines() if line.startswith("| ")}
    assert "32 / 32" in rows["backbone.0"] and "loaded" in rows["backbone.0"]
    assert "0 / 18" in rows["predictor"] and "not in the checkpoint" in rows["predictor"]
    assert "encoder.projector, momentum_encoder.backbone" in caplog.text


def test_a_momentum_encoder_that_is_missing_starts_as_the_encoder(tmp_path):
    method = Method()
    load(method, save(tmp_path, Detector()), min_coverage=0.9)
    assert torch.equal(method.encoder.backbone[0].weight, method.momentum_encoder.backbone[0].weight)


def test_too_little_of_the_backbone_is_an_error_unless_the_key_allows_it(tmp_path):
    wide, path = Detector(channels=16), save(tmp_path, Method())
    with pytest.raises(CheckpointError, match=r"covers 0\.0% of the backbone.*MODEL\.WEIGHTS_MIN_COVERAGE 0"):
        load(wide, path)
    before = wide.backbone[0].weight.clone()
    load(wide, path, min_coverage=0.0)
    assert torch.equal(wide.backbone[0].weight, before)


def test_evaluation_needs_the_whole_model(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"of the model, less than 100\.0%: not predictor\.weight, .*Evaluation needs all"
    ):
        load_whole_model(Detector(), save(tmp_path, Method()))
    detector, loaded = Detector(), Detector()
    load_whole_model(loaded, save(tmp_path, detector))
    for name, value in detector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pth: there is no such checkpoint"):
        load(Detector(), str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="text.pth: not a checkpoint"):
        load(Detector(), str(tmp_path / "text.pth"))
    torch.save({"model": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="list.pth: its 'model' is not a state dict"):
        load(Detector(), str(tmp_path / "list.pth"))


def test_code_in_a_pickle_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("x",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(CheckpointError, match="evil.pth"):
        load(Detector(), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()

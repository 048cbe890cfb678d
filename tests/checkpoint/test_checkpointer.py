import argparse
import io
import logging
import pickle
import random
import zipfile
from pathlib import Path

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
    with pytest.raises(CheckpointError, match="list.pth: its weights are not a state dict"):
        load(Detector(), str(tmp_path / "list.pth"))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("key", ["model", "state_dict", "model_state", None])
def test_weights_are_found_under_other_names(tmp_path, prefix, key):
    """torch.compile and DistributedDataParallel put prefixes before names, other frameworks the weights elsewhere."""
    detector, other = Detector(), Detector()
    weights = {prefix + name: tensor for name, tensor in other.state_dict().items()}
    torch.save(weights if key is None else {key: weights, "epoch": 3}, tmp_path / "a.pth")
    load(detector, str(tmp_path / "a.pth"), whole_model=True)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in detector.state_dict().items())


def test_a_compiled_part_is_found(tmp_path):
    detector, other = Detector(), Detector()
    weights = {name.replace("backbone.", "backbone._orig_mod."): v for name, v in other.state_dict().items()}
    torch.save(weights, tmp_path / "a.pth")
    load(detector, str(tmp_path / "a.pth"), whole_model=True)
    assert torch.equal(detector.backbone[0].weight, other.backbone[0].weight)


def written(write):
    """A function of a path from one that writes to a file."""

    def to(path):
        with open(path, "wb") as file:
            write(file)

    return to


OTHERS = {  # file -> (what writes it, what the message says)
    "graph.onnx": (written(lambda f: f.write(b"\x08\x08\x12\x07pytorch")), "is an ONNX graph"),
    "script.pt": (
        lambda path: torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path),
        "is a TorchScript archive.*state_dict",
    ),
    "lightning.ckpt": (
        lambda path: torch.save(
            {"state_dict": Detector().state_dict(), "hyper_parameters": argparse.Namespace(lr=1)}, path
        ),
        "holds objects of argparse.Namespace.*save its weights alone",
    ),
    "module.pth": (
        lambda path: torch.save(nn.Linear(2, 2), path),
        r"holds objects of torch\.nn\.modules.*weights alone",
    ),
    "tensor.pth": (lambda path: torch.save(torch.zeros(3), path), "holds a Tensor, not a state dict"),
    "optimizer.pth": (lambda path: torch.save({"optimizer": {}}, path), "'optimizer' is a dict"),
    "sparse.pth": (
        lambda path: torch.save({"predictor.bias": torch.zeros(2).to_sparse()}, path),
        "'predictor.bias' is a tensor of another kind",
    ),
    "pointer.pth": (written(lambda f: f.write(b"version https://git-lfs.github.com/spec/v1\n")), "git lfs pull"),
    "page.pth": (written(lambda f: f.write(b"<!DOCTYPE html>")), "is a web page"),
    "a.safetensors": (written(lambda f: f.write(bytes([2] + [0] * 7) + b"{}")), "is a safetensors file"),
    "archive.pth": (
        lambda path: zipfile.ZipFile(path, "w").writestr("notes.txt", "x"),
        "is a zip archive, not one of torch.save",
    ),
    "empty.pth": (Path.touch, "is empty"),
    "folder": (Path.mkdir, "is a folder: give a checkpoint in it"),
}


@pytest.mark.filterwarnings("ignore")  # torch warns of its own TorchScript
@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_called_by_their_name(tmp_path, name):
    write, message = OTHERS[name]
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name}.*{message}") as raised:
        load(Detector(), str(tmp_path / name))
    assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")  # of torch, about what it tries with damaged files
@pytest.mark.parametrize("is_zip", [True, False])
def test_damaged_checkpoints_are_one_line(tmp_path, is_zip):
    whole, path = io.BytesIO(), tmp_path / "damaged.pth"
    torch.save({"model": Detector().state_dict(), "iteration": 3}, whole, _use_new_zipfile_serialization=is_zip)
    rng = random.Random(0)
    num_refused = 0
    for _ in range(150):
        content = bytearray(whole.getvalue())
        start = rng.randrange(len(content))
        if rng.random() < 0.5:
            del content[start : start + rng.choice((1, 100, len(content)))]
        else:
            for place in rng.choices(range(len(content)), k=rng.randint(1, 30)):
                content[place] = rng.randrange(256)
        path.write_bytes(content)
        try:
            load(Detector(), str(path))
        except CheckpointError as error:
            num_refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error) and "weights_only" not in str(error)
    assert num_refused > 75


def test_code_in_a_pickle_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("x",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(CheckpointError, match="evil.pth"):
        load(Detector(), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()

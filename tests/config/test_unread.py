import argparse
import copy
import pickle

import pytest
import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.engine import default_setup

from vdet_ssl.config import CfgNode, add_keys, get_cfg, load_cfg, refuse_unread
from vdet_ssl.config.key import Key
from vdet_ssl.errors import ConfigError


def leaves(node, prefix=""):
    for name in node:
        value = dict.__getitem__(node, name)
        yield from leaves(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else [prefix + name]


def reads(cfg):
    """Names of the keys, not of the groups, that were read."""
    return cfg.record.reads & set(leaves(cfg))


def test_values_are_read_by_name_by_get_and_from_a_group_as_a_whole():
    cfg = get_cfg()
    assert reads(cfg) == set()
    bn = cfg.MODEL.BN
    assert reads(cfg) == set()
    assert (bn.EPS, bn["MOMENTUM"], bn.get("GROUP_SIZE"), cfg.SEED) == (1e-5, 0.1, 0, 0)
    assert reads(cfg) == {"MODEL.BN.EPS", "MODEL.BN.MOMENTUM", "MODEL.BN.GROUP_SIZE", "SEED"}


@pytest.mark.parametrize(
    "read", [dict, lambda node: dict(**node), lambda node: list(node.items()), lambda node: list(node.values())]
)
def test_a_group_that_is_taken_as_a_whole_is_read(read):
    cfg = get_cfg()
    read(cfg.TEST.KNN)
    assert reads(cfg) == {"TEST.KNN.ENABLED", "TEST.KNN.K", "TEST.KNN.TEMPERATURE"}


def test_printing_copying_freezing_merging_and_dumping_read_nothing():
    cfg = get_cfg()
    cfg.merge_from_list(["SEED", "1"])
    cfg.merge_from_other_cfg(CN({"SEED": 2}))
    cfg.freeze()
    cfg.defrost()
    cfg.set_new_allowed(False)
    text = f"{cfg} {cfg!r} {cfg.dump()}"
    copies = cfg.clone(), copy.deepcopy(cfg.MODEL), pickle.loads(pickle.dumps(cfg))
    assert text and cfg == copies[0] and "SEED" in cfg and cfg.peek("MODEL.BN.EPS") and len(list(cfg.MODEL))
    assert reads(cfg) == reads(copies[2]) == set()


def test_what_is_read_in_a_copy_or_a_frozen_config_is_read():
    cfg = get_cfg()
    cfg.freeze()
    cfg.clone().SEED, copy.deepcopy(cfg.MODEL.BN).EPS, cfg.MODEL.BN.MOMENTUM
    assert reads(cfg) == {"SEED", "MODEL.BN.EPS", "MODEL.BN.MOMENTUM"}
    again = pickle.loads(pickle.dumps(cfg))
    again.MODEL.DEVICE  # noqa: B018
    assert reads(again) == reads(cfg) | {"MODEL.DEVICE"}


def test_a_copys_overrides_and_keys_are_its_own():
    cfg = get_cfg()
    other = cfg.clone()
    add_keys(other, [Key("NEW", 0, "")])
    other.merge_from_list(["NEW", "1", "MODEL.FPN.NORM", "BN"])
    refuse_unread(cfg)
    with pytest.raises(ConfigError, match="NEW"):
        refuse_unread(other)


def test_configurable_constructors_and_nodes_of_projects_read():
    class Thing:
        @configurable
        def __init__(self, *, eps, width):
            self.values = eps, width

        @classmethod
        def from_config(cls, cfg):
            return {"eps": cfg.MODEL.BN.EPS, "width": cfg.MODEL.NEW.WIDTH}

    cfg = get_cfg()
    cfg.MODEL.NEW = CN()
    cfg.MODEL.NEW.WIDTH = 3
    cfg.MODEL.NEW.DEPTH = 3
    assert Thing(cfg).values == (1e-5, 3)
    assert reads(cfg) == {"MODEL.BN.EPS", "MODEL.NEW.WIDTH"}


def test_a_key_that_was_set_and_not_read_is_refused_with_its_place_and_what_to_do(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("INPUT:\n  CROP:\n    ENABLED: True\nMODEL:\n  FPN:\n    NORM: BN\n")
    cfg = load_cfg(path, ["MODEL.BN.EPS", "1e-3", "SOLVER.GAMMA", "0.5", "MODEL.BN.MOMENTUM", "0.1"])
    message = (
        r"a\.yaml:3: INPUT.CROP.ENABLED True has no effect, nothing in BYOL with build_slow_resnet_backbone reads it: "
        r"set INPUT.CROP.TYPE, .*; so has .*a\.yaml:6: MODEL.FPN.NORM 'BN'; so has command line: MODEL.BN.EPS 0.001"
    )
    with pytest.raises(ConfigError, match=message) as error:
        refuse_unread(cfg)
    assert "\n" not in str(error.value) and "MOMENTUM" not in str(error.value)  # which was set to its default
    cfg.INPUT.CROP.ENABLED, cfg.MODEL.FPN.NORM, cfg.MODEL.BN.EPS  # noqa: B018
    with pytest.raises(ConfigError, match="it needs SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR"):
        refuse_unread(cfg)
    cfg.SOLVER.GAMMA  # noqa: B018
    refuse_unread(cfg)


def test_a_value_is_compared_with_the_default_of_the_module_that_brought_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brings_a_default.py").write_text("def add_config(cfg):\n    cfg.MODEL.FPN.NORM = 'GN'\n")
    refuse_unread(load_cfg("", ["IMPORTS", "brings_a_default", "MODEL.FPN.NORM", "GN"]))
    with pytest.raises(ConfigError, match="MODEL.FPN.NORM"):
        refuse_unread(load_cfg("", ["IMPORTS", "brings_a_default", "MODEL.FPN.NORM", ""]))


def test_a_file_may_set_keys_of_an_evaluation_that_this_run_does_not_have(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "DATASETS:\n  TEST: [a.csv]\nTEST:\n  IMS_PER_BATCH: 3\nINPUT:\n  MIN_SIZE_TEST: 3\n"
    )
    cfg = load_cfg(tmp_path / "a.yaml")
    refuse_unread(cfg, evaluates=False)
    with pytest.raises(ConfigError, match="DATASETS.TEST"):
        refuse_unread(cfg)
    for key, value in (("TEST.IMS_PER_BATCH", "4"), ("TEST.AUG.ENABLED", "True"), ("INPUT.MIN_SIZE_TEST", "4")):
        with pytest.raises(ConfigError, match=f"command line: {key}"):
            refuse_unread(load_cfg("", [key, value]), evaluates=False)


def test_an_evaluation_judges_the_command_line_alone_where_that_is_not_of_the_training(tmp_path):
    (tmp_path / "a.yaml").write_text("INPUT:\n  CROP:\n    ENABLED: True\n")
    refuse_unread(load_cfg(tmp_path / "a.yaml"), trains=False)
    refuse_unread(load_cfg("", ["SOLVER.GAMMA", "0.5"]), trains=False)
    with pytest.raises(ConfigError, match="command line: INPUT.CROP.ENABLED True"):
        refuse_unread(load_cfg("", ["INPUT.CROP.ENABLED", "True"]), trains=False)


def test_what_detectron2s_default_setup_honours_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    cfg = load_cfg("", ["SEED", "3", "CUDNN_BENCHMARK", "True", "OUTPUT_DIR", str(tmp_path), "MODEL.FPN.NORM", "GN"])
    cfg.freeze()
    default_setup(cfg, argparse.Namespace())
    assert torch.backends.cudnn.benchmark and torch.initial_seed() == 3
    with pytest.raises(ConfigError, match=r"MODEL.FPN.NORM 'GN' has no effect[^;]*$"):
        refuse_unread(cfg)

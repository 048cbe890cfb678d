import sys

import pytest
import yaml
from detectron2.config import CfgNode as CN

from vdet_ssl.config import FRACTION, Key, add_keys, check_values, get_cfg, load_cfg
from vdet_ssl.errors import ConfigError


def write(path, text):
    path.write_text(text)
    return str(path)


def test_base_file_and_command_line_override_defaults(tmp_path):
    write(tmp_path / "base.yaml", "SOLVER:\n  BASE_LR: 4.8\n  WEIGHT_DECAY: 1e-6\n  MAX_EPOCHS: 200\n")
    path = write(tmp_path / "a.yaml", "_BASE_: base.yaml\nSOLVER:\n  BASE_LR: 2\nDATASETS:\n  TRAIN: [a.csv]\n")
    cfg = load_cfg(path, ["INPUT.NUM_CLIPS", "4", "DATASETS.TEST", "b.csv"])
    assert cfg.SOLVER.BASE_LR == 2.0 and isinstance(cfg.SOLVER.BASE_LR, float)
    assert cfg.SOLVER.WEIGHT_DECAY == 1e-6 and cfg.SOLVER.MAX_EPOCHS == 200.0
    assert cfg.INPUT.NUM_CLIPS == 4
    assert cfg.DATASETS.TRAIN == ("a.csv",) and cfg.DATASETS.TEST == ("b.csv",)


def test_of_several_bases_the_later_one_counts(tmp_path):
    write(tmp_path / "a.yaml", "SOLVER:\n  BASE_LR: 1.0\n  MAX_ITER: 5\n")
    write(tmp_path / "b.yaml", "SOLVER:\n  BASE_LR: 2.0\n")
    solver = load_cfg(write(tmp_path / "c.yaml", "_BASE_: [a.yaml, b.yaml]\nSEED: 3\n")).SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER) == (2.0, 5)


def test_written_config_reads_back_the_same(tmp_path):
    cfg = load_cfg("", ["SOLVER.BASE_LR", "0.3", "MODEL.WEIGHTS", "x.pth"])
    again = load_cfg(write(tmp_path / "config.yaml", cfg.dump()))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


@pytest.mark.parametrize(
    "text, message",
    [
        ("INPUT:\n  NUM_CLIP: 2\n", r"a\.yaml:2: there is no key INPUT\.NUM_CLIP; .* INPUT\.NUM_CLIPS$"),
        ("NUM_CLIPS: 2\n", r"a\.yaml:1: there is no key NUM_CLIPS; .* INPUT\.NUM_CLIPS$"),
        ("INPUT:\n  NUM_CLIPS:\n    X: 2\n", r"a\.yaml:3: there is no key INPUT\.NUM_CLIPS\.X"),
        (
            "INPUT:\n  NUM_CLIPS: 2\n  FORMAT: RGB\n  NUM_CLIPS: 3\n",
            r"a\.yaml:4: INPUT\.NUM_CLIPS is set twice.*line 2",
        ),
        ("INPUT:\n  NUM_CLIPS: 2\nINPUT:\n  FORMAT: RGB\n", r"a\.yaml:3: INPUT is set twice"),
        ("INPUT:\n  NUM_CLIPS: two\n", r"a\.yaml:2: INPUT\.NUM_CLIPS takes a int, as in 2, not 'two'"),
        ("INPUT: 3\n", r"a\.yaml:1: INPUT takes a group of keys, not 3"),
        ("_BASE_: nowhere.yaml\n", r"a\.yaml: its _BASE_ .*nowhere\.yaml does not exist"),
        ("INPUT: [\n", r"a\.yaml: not valid yaml"),
        ("_BASE_: a.yaml\n", r"a\.yaml: it is its own _BASE_"),
        ("SEED: !!python/object:os.system x\n", r"a\.yaml: not valid yaml"),
        ("just text\n", r"a\.yaml: expected KEY: value"),
    ],
)
def test_a_bad_file_is_refused_with_file_line_and_nearest_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_cfg(write(tmp_path / "a.yaml", text))


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["MODEL.WEIGHT", "x"], "command line: there is no key MODEL.WEIGHT; the nearest one is MODEL.WEIGHTS"),
        (["MODEL.WEIGHTS"], "pairs of KEY VALUE"),
        (["SOLVER.MAX_ITER", "1.5"], "SOLVER.MAX_ITER takes a int"),
    ],
)
def test_a_bad_override_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_cfg("", overrides)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["INPUT.NUM_FRAMES", "0"], "INPUT.NUM_FRAMES is 0; it has to be at least 1"),
        (["SOLVER.BASE_LR", float("nan")], "SOLVER.BASE_LR is"),
        (["SOLVER.BASE_LR", "1e999"], "SOLVER.BASE_LR is inf"),
        (["INPUT.CROP.SIZE", "[64]"], "takes 2 values"),
        (["INPUT.CROP.SIZE", "[64,0]"], "at least 1"),
        (["INPUT.CROP.AREA", "[0.9,0.1]"], "the smaller value comes first"),
        (["MODEL.BYOL.MOMENTUM", "2.0"], "from 0 to 1"),
        (["INPUT.DECODER", "foo"], "one of 'pyav', 'torchcodec'"),
        (["SOLVER.MOMENTUM", "1.0"], "at least 0 and less than 1"),
        (["MODEL.ROI_HEADS.IOU_LABELS", "[0,2]"], "one of 0, 1, -1"),
        (["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all"], "one of 'value', 'norm', 'full_model'"),
        (["SOLVER.WEIGHT_DECAY_BIAS", "-1.0"], "at least 0"),
        (["MODEL.PIXEL_MEAN", "[1e999,1,1]"], "MODEL.PIXEL_MEAN is .*it has to be finite"),
        (["MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"], "one of 'ROIAlignV2', 'ROIAlign', 'ROIPool'"),
    ],
)
def test_values_that_nobody_can_mean_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_values(load_cfg("", overrides))


def test_the_defaults_are_legal_and_so_is_an_infinite_norm():
    check_values(load_cfg("", ["SOLVER.CLIP_GRADIENTS.NORM_TYPE", float("inf"), "SOLVER.WEIGHT_DECAY_BIAS", "0.1"]))


def test_a_projects_keys_are_checked_as_all_are():
    cfg = get_cfg()
    add_keys(cfg, [Key("MODEL.NEW.HEAD.WIDTH", 0.5, "of the head", FRACTION), Key("INPUT.NEW", "x", "whatever")])
    assert (cfg.MODEL.NEW.HEAD.WIDTH, cfg.INPUT.NEW) == (0.5, "x")
    cfg.merge_from_list(["MODEL.NEW.HEAD.WIDTH", "1.5"])
    with pytest.raises(ConfigError, match=r"MODEL.NEW.HEAD.WIDTH is 1.5; it has to be from 0 to 1"):
        check_values(cfg.clone())


ITERATIONS_AND_EPOCHS = [
    ("SOLVER.MAX_ITER", "100", "SOLVER.MAX_EPOCHS", "3"),
    ("SOLVER.WARMUP_ITERS", "5", "SOLVER.WARMUP_EPOCHS", "1"),
    ("SOLVER.STEPS", "(5,)", "SOLVER.STEP_EPOCHS", "(1,)"),
    ("SOLVER.CHECKPOINT_PERIOD", "7", "SOLVER.CHECKPOINT_EPOCHS", "1"),
    ("TEST.EVAL_PERIOD", "7", "SOLVER.EVAL_EPOCHS", "1"),
]


def as_yaml(key, value):
    group, name = key.split(".")
    return f"{group}:\n  {name}: {value}\n"


@pytest.mark.parametrize("iterations, number, epochs, length", ITERATIONS_AND_EPOCHS)
def test_iterations_override_the_epochs_of_a_file_below(tmp_path, iterations, number, epochs, length):
    base = write(tmp_path / "base.yaml", as_yaml(epochs, length))
    derived = write(tmp_path / "derived.yaml", "_BASE_: base.yaml\n" + as_yaml(iterations, number))
    for cfg in (load_cfg(base, [iterations, number]), load_cfg(derived)):
        assert str(cfg.peek(iterations)) == number and not cfg.peek(epochs)
    assert load_cfg(base).peek(epochs) and load_cfg(derived, [epochs, length]).peek(epochs)
    with pytest.raises(ConfigError, match=f"command line: {iterations} and {epochs} say the same thing"):
        load_cfg("", [iterations, number, epochs, length])
    assert not load_cfg(base, [iterations, number, epochs, "()" if "," in length else "0"]).peek(epochs)
    saved = write(tmp_path / "config.yaml", load_cfg(base).dump())  # has both
    assert load_cfg(saved).peek(epochs) == load_cfg(base).peek(epochs)


def test_a_frozen_config_cannot_be_changed():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        cfg.merge_from_list(["SEED", "1"])


def add_pointrend_config(cfg):
    """As detectron2's projects write it."""
    cfg.INPUT.COLOR_AUG_SSD = False
    cfg.MODEL.POINT_HEAD = CN()
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    cfg.MODEL.POINT_HEAD.FC_DIMS = CN({"FIRST": 256})
    cfg.MODEL.IMPLICIT_POINTREND = implicit = CN()
    implicit.IMAGE_FEATURE_ENABLED = True


def test_a_detectron2_projects_keys_merge_from_file_and_command_line(tmp_path):
    cfg = get_cfg()
    add_pointrend_config(cfg)
    text = "MODEL:\n  POINT_HEAD:\n    NAME: x\n    FC_DIMS: {FIRST: 2}\nINPUT:\n  COLOR_AUG_SSD: True\n"
    cfg.merge_from_file(write(tmp_path / "a.yaml", text))
    cfg.merge_from_list(["MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED", "False"])
    assert (cfg.MODEL.POINT_HEAD.NAME, cfg.MODEL.POINT_HEAD.FC_DIMS.FIRST, cfg.INPUT.COLOR_AUG_SSD) == ("x", 2, True)
    assert not cfg.MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED
    with pytest.raises(ConfigError, match="no key MODEL.POINT_HEAD.NAM; the nearest one is MODEL.POINT_HEAD.NAME"):
        cfg.merge_from_list(["MODEL.POINT_HEAD.NAM", "x"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, empty, from which modules may be imported; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


PROJECT = """
from detectron2.config import CfgNode as CN
def add_config(cfg):
    cfg.MODEL.{name} = CN()
    cfg.MODEL.{name}.WIDTH = 1
"""


def test_modules_of_files_and_command_line_add_their_keys_before_any_is_merged(folder):
    (folder / "package").mkdir()
    write(folder / "package/one.py", PROJECT.format(name="ONE"))
    write(folder / "two.py", PROJECT.format(name="TWO"))
    write(folder / "three.py", PROJECT.format(name="THREE"))
    write(folder / "without_keys.py", "")
    write(folder / "base.yaml", "IMPORTS: [package.one, without_keys]\nMODEL:\n  THREE:\n    WIDTH: 3\n")
    path = write(folder / "a.yaml", "_BASE_: base.yaml\nIMPORTS: two\nMODEL:\n  ONE:\n    WIDTH: 2\n")
    cfg = load_cfg(path, ["MODEL.TWO.WIDTH", "4", "IMPORTS", "['three']"])
    assert cfg.IMPORTS == ["package.one", "without_keys", "two", "three"]
    assert (cfg.MODEL.ONE.WIDTH, cfg.MODEL.TWO.WIDTH, cfg.MODEL.THREE.WIDTH) == (2, 4, 3)
    again = load_cfg(write(folder / "config.yaml", cfg.dump()), ["IMPORTS", "two"])
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_a_module_beside_vdet_ssl_is_found_from_everywhere(folder):
    assert load_cfg("", ["IMPORTS", "tools.install_detectron2"]).IMPORTS == ["tools.install_detectron2"]


@pytest.mark.parametrize("name", ["no_such_module", "tools.no_such_module", "no_such.module"])
def test_a_module_that_does_not_exist_is_refused_with_file_line_and_where_it_was_looked_for(folder, name):
    path = write(folder / "a.yaml", f"SEED: 1\nIMPORTS: [{name}]\n")
    with pytest.raises(ConfigError, match=rf"a\.yaml:2: IMPORTS names {name}, .* in {folder}, or in ") as error:
        load_cfg(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"command line: IMPORTS names {name}"):
        load_cfg("", ["IMPORTS", name])


@pytest.mark.parametrize("value", ["3", "[1]", ".relative", "['']"])
def test_what_is_not_the_name_of_a_module_is_refused(value):
    with pytest.raises(ConfigError, match="command line: IMPORTS takes"):
        load_cfg("", ["IMPORTS", value])


@pytest.mark.parametrize("value", ["a,b", "a, b", "[a,b]"])
def test_several_modules_without_quotes_are_refused_with_the_form_of_a_list(value):
    with pytest.raises(ConfigError, match=r"""command line: IMPORTS takes .* as a list, "\['a', 'b'\]"$"""):
        load_cfg("", ["IMPORTS", value])


def test_an_error_inside_a_module_keeps_its_traceback(folder):
    write(folder / "broken.py", "import no_such_dependency")
    write(folder / "wrong.py", "def add_config(cfg):\n    cfg.NO_SUCH_GROUP.X = 1\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_cfg("", ["IMPORTS", "broken"])
    with pytest.raises(AttributeError, match="NO_SUCH_GROUP"):
        load_cfg("", ["IMPORTS", "wrong"])


def test_a_frozen_config_imports_nothing(folder):
    write(folder / "two.py", PROJECT.format(name="TWO"))
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        cfg.merge_from_list(["IMPORTS", "two"])

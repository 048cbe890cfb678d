import pytest
import yaml

from vdet_ssl.config import check_values, get_cfg, load_cfg
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
    ],
)
def test_values_that_nobody_can_mean_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_values(load_cfg("", overrides))


def test_a_frozen_config_cannot_be_changed():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        cfg.merge_from_list(["SEED", "1"])

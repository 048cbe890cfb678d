"""Every config there is: it can be read, its model can be built, and every experiment of the paper can take a step."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import vdet_ssl.modeling  # noqa: F401 (fills the registries)
from vdet_ssl.config import check_values, load_cfg, refuse_unread
from vdet_ssl.data.mappers import VideoMapper
from vdet_ssl.engine import trainer_class
from vdet_ssl.engine.train_loop import SSLStepTrainer
from vdet_ssl.solver import build_optimizer, resolve_schedule

ROOT = Path(__file__).resolve().parents[1]
ABLATIONS = ROOT / "configs/ablations"
INDICES = sorted(ABLATIONS.glob("*/index.yaml"))
CONFIGS = sorted(
    path
    for path in (*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("projects/*/configs/**/*.yaml"))
    if path.stem != "index"
)
ABLATION_CONFIGS = [path for path in CONFIGS if path.is_relative_to(ABLATIONS)]
BATCH = 4


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def build_on_meta():
    """Function: config -> its model without weights; configs with the same model share one."""
    built = {}

    def build(cfg):
        cfg.MODEL.DEVICE = "meta"
        key = cfg.MODEL.dump()
        if key not in built:
            with torch.device("meta"):
                built[key] = build_model(cfg)
        return built[key]

    return build


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_every_config_builds_its_model(path, build_on_meta):
    model = build_on_meta(load_cfg(path))
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.fixture(scope="module")
def data_sets(video, tmp_path_factory):
    """A small data set of each kind, and proposals for the one of key frames."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "list.csv").write_text(f"{video},0\n")
    (folder / "boxes.csv").write_text("a,1,0.1,0.1,0.9,0.9,1,0\n")
    (folder / "proposals.csv").write_text("a,1,0.1,0.1,0.9,0.9,,1.0\n")
    (folder / "actions.pbtxt").write_text('item { name: "walk" id: 1 }')
    (folder / "ava.yaml").write_text(f"annotations: boxes.csv\nlabel_map: actions.pbtxt\nvideos: {video.parent}\n")
    return {"videos": str(folder / "list.csv"), "key_frames": str(folder / "ava.yaml")}, str(folder / "proposals.csv")


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem != "thin_slow_r18"], ids=name_of)
def test_every_config_sets_only_what_its_run_reads(path, data_sets, tmp_path):
    cfg = load_cfg(path, ["MODEL.DEVICE", "meta", "OUTPUT_DIR", str(tmp_path)])
    by_kind, proposals = data_sets
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (by_kind[trainer_class(cfg).data_kind],)
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = (proposals,)
    check_values(cfg)
    resolve_schedule(cfg, num_samples=10**6)
    with torch.device("meta"):
        trainer = trainer_class(cfg)(cfg)
    refuse_unread(cfg, evaluates=bool(trainer.evaluations))


def test_the_defaults_of_the_four_methods_are_those_of_the_paper():
    """Section B.1, number by number."""
    for method in ("MoCo", "SimCLR", "BYOL", "SwAV"):
        cfg = load_cfg(ROOT / f"configs/{method}/slow_r50_8x8.yaml")
        is_moco = method == "MoCo"
        assert cfg.MODEL.META_ARCHITECTURE == method
        assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR) == (("SGD", 0.4) if is_moco else ("LARS", 4.8))
        assert cfg.SOLVER.WEIGHT_DECAY == (1e-4 if is_moco else 1e-6)
        assert (cfg.MODEL.BN.NUM_SYNC_DEVICES, cfg.MODEL.BN.GROUP_SIZE) == ((1, 8) if is_moco else (8, 0))
        assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_BATCH_SIZE, cfg.SOLVER.MAX_EPOCHS) == (512, 512, 200)
        assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.WARMUP_EPOCHS, cfg.SOLVER.LARS_TRUST_COEFFICIENT) == (0.9, 0, 0.001)
        assert cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupCosineLR"
        assert cfg.DATASETS.TRAIN == ("kinetics400_train",)
        inputs, color = cfg.INPUT, cfg.INPUT.COLOR
        assert (inputs.NUM_FRAMES, inputs.SAMPLING_RATE, inputs.NUM_CLIPS, inputs.T_MAX_S) == (8, 8, 2, -1)
        assert (inputs.CROP.TYPE, inputs.CROP.SIZE, inputs.MIN_SIZE_TRAIN) == ("vgg", [224, 224], (256, 320))
        assert (color.JITTER_PROB, color.STRENGTH, color.GRAYSCALE_PROB, color.BLUR_PROB) == (0.8, 0.5, 0.2, 0.5)
        assert (inputs.RANDOM_FLIP, color.BLUR_SIGMA, color.TEMPORAL_DIFFERENCE_PROB) == ("horizontal", [0.1, 2.0], 0)


def test_the_indices_and_the_ablations_name_each_other():
    """Every row has its config, every ablation its row, and the table of folders all of them."""
    used = set()
    for path in INDICES:
        rows = yaml.safe_load(path.read_text())["rows"]
        for row in rows:
            if row["config"] is None:
                assert "missing" in row["note"]
                continue
            config = (path.parent / row["config"]).resolve()
            assert config.is_file(), f"{path}: {row}"
            used.add(config)
        settings = [{k: v for k, v in row.items() if k not in ("config", "paper", "note")} for row in rows]
        assert all(settings.count(s) == 1 for s in settings), f"{path}: two rows with the same settings"
        line = next(x for x in (ABLATIONS / "README.md").read_text().splitlines() if f"`{path.parent.name}`" in x)
        assert line.split("|")[3].strip() == str(len(rows)), f"{ABLATIONS}/README.md: {line}"
    assert {path.resolve() for path in ABLATION_CONFIGS} <= used
    tables = [f"table{n:02d}" for n in (*range(2, 10), *range(12, 17))] + [f"figure{n:02d}" for n in (3, 4, 5)]
    assert sorted(p.parent.name.split("_")[0] for p in INDICES) == sorted(tables)


def test_the_indices_hold_only_figures_of_the_text():
    """The paper's text states each figure of an index, as it stands there."""
    text = ROOT / "../shared/paper/arxiv_2104.14558.txt"
    if not text.exists():
        pytest.skip("no ../shared/paper")
    text = text.read_text()
    for path in INDICES:
        for row in yaml.safe_load(path.read_text())["rows"]:
            assert all(f"{figure:.1f}" in text for figure in row.get("paper", {}).values()), f"{path}: {row}"


def scaled_down(path):
    """The config, for clips of 2 frames of 32 pixels and with a few channels wherever that is a matter of size only."""
    cfg = load_cfg(path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.MOCO.QUEUE_SIZE = 32
    cfg.MODEL.SWAV.NUM_PROTOTYPES = 8
    for method in (cfg.MODEL.MOCO, cfg.MODEL.SIMCLR, cfg.MODEL.BYOL, cfg.MODEL.SWAV):
        method.HIDDEN_DIM, method.EMBED_DIM = 16, 8
    cfg.MODEL.BN.GROUP_SIZE //= 4
    cfg.INPUT.NUM_FRAMES = cfg.INPUT.NUM_FRAMES // 4
    cfg.INPUT.MIN_SIZE_TRAIN = tuple(size // 7 for size in cfg.INPUT.MIN_SIZE_TRAIN)
    cfg.INPUT.CROP.SIZE = [size // 7 for size in cfg.INPUT.CROP.SIZE]
    return cfg


def take_a_step(cfg, video, folder):
    """Decode and augment a batch as the config says, train for one step; return the names of what did not change."""
    mapper = VideoMapper.for_pretraining(cfg)
    record = {"file_name": str(video), "video_id": "video"}
    batch = [mapper(record, np.random.default_rng(i)) for i in range(BATCH)]
    assert len(batch[0]["clips"]) == max(cfg.INPUT.NUM_CLIPS, 2)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    trainer = SSLStepTrainer(
        model, [batch], optimizer, max_iter=10, accumulation_steps=1, seed=0, amp=False, dump_dir=folder
    )
    trainer.iter = 5
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with EventStorage(5) as storage:
        trainer.run_step()
        assert np.isfinite(storage.latest()["total_loss"][0])
    return {name for name, p in model.named_parameters() if torch.equal(p, before[name])}


@pytest.fixture(scope="module")
def video(make_video, tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("videos") / "a.mp4", num_frames=90, size=(64, 128))


def check_step(cfg, video, folder):
    unchanged = take_a_step(cfg, video, folder)
    # The last norm of a residual block starts at 0, so what comes before it in the block has no gradient yet; the
    # momentum encoder has hardly moved; SwAV's prototypes are frozen in the first epoch.
    expected = ("encoder.backbone", "momentum_encoder", "prototypes")
    assert not {name for name in unchanged if not name.startswith(expected)}
    assert "encoder.backbone.stem.conv1.weight" not in unchanged


@pytest.mark.parametrize("method", ["MoCo", "SimCLR", "BYOL", "SwAV"])
def test_the_default_of_each_method_takes_a_step(method, video, tmp_path):
    check_step(scaled_down(ROOT / f"configs/{method}/slow_r50_8x8.yaml"), video, tmp_path)


@pytest.fixture(scope="module")
def stepped():
    """What the configs that have taken a step depended on."""
    return set()


@pytest.mark.slow
@pytest.mark.parametrize("path", ABLATION_CONFIGS, ids=name_of)
def test_every_experiment_takes_a_step(path, video, tmp_path, stepped):
    """Those that differ from another in data or epochs alone share its step."""
    cfg = scaled_down(path)
    key = cfg.MODEL.dump(), cfg.INPUT.dump(), cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY
    if key not in stepped:
        check_step(cfg, video, tmp_path)
        stepped.add(key)

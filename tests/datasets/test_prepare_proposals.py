"""People in real videos: a detector that boxes what a frame says of itself, and detectron2's own, tiny and untrained."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from vdet_ssl.errors import ConfigError, DataError, UserError

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_proposals.py"
# A detector that is built and run in a second.
TINY = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  BACKBONE: {NAME: build_retinanet_resnet_fpn_backbone}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, STEM_OUT_CHANNELS: 64, OUT_FEATURES: [res3, res4, res5]}
  FPN: {IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}
  RETINANET: {NUM_CLASSES: 2, NUM_CONVS: 1}
INPUT: {MIN_SIZE_TEST: 64}
"""


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("prepare_proposals", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def prepare(script, read_number, monkeypatch, tmp_path):
    """Function: arguments -> rows that are written, with one box whose right edge is (number of the frame + 1) / 1000."""

    def build_detector(args):
        def predict(bgr):
            height, width = bgr.shape[:2]
            people = Instances((height, width))
            right = width * (read_number(bgr[:, :, ::-1]) + 1) / 1000
            people.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, right, height / 2]]))
            people.scores, people.pred_classes = torch.tensor([0.9]), torch.tensor([0])
            return {"instances": people}

        return predict

    monkeypatch.setattr(script, "build_detector", build_detector)
    output = tmp_path / "out/people.csv"

    def run(*arguments):
        words = [*map(str, arguments), "--output", str(output), "--detector", "x", "--weights", "y"]
        try:
            script.main(script.parser().parse_args(words))
        finally:
            run.rows = output.read_text().splitlines() if output.exists() else None
        return run.rows

    return run


@pytest.fixture
def movie(make_video, tmp_path):
    return make_video(tmp_path / "m1.mp4", fps=10, num_frames=100)


def test_key_frames_of_a_movie_that_is_cut_from_a_longer_one(prepare, movie, tmp_path):
    (tmp_path / "gt.csv").write_text("".join(f"m1,{t},0,0,1,1,1,0\n" for t in (900, 902, 908)))
    rows = prepare("--videos", movie, "--annotations", tmp_path / "gt.csv", "--videos-start-s", 900)
    assert rows == [f"m1,{t},0.0,0.0,{x},0.5,,0.9" for t, x in ((900, 0.001), (902, 0.021), (908, 0.081))]


def test_key_frames_outside_of_a_movie_are_an_error_and_cost_the_others_nothing(prepare, movie, make_video, tmp_path):
    make_video(tmp_path / "m2.mp4", fps=10, num_frames=50)
    (tmp_path / "gt.csv").write_text("m1,900,0,0,1,1,1,0\nm1,1,0,0,1,1,1,0\nm2,1,0,0,1,1,1,0\n")
    with pytest.raises(
        SystemExit, match=r"1 of 2 videos.*\n.*m1.mp4: 1 of its 2 key frames, at 900 s .* from 0 to 10 s"
    ):
        prepare("--videos", movie, tmp_path / "m2.mp4", "--annotations", tmp_path / "gt.csv")
    assert prepare.rows == ["m2,1,0.0,0.0,0.011,0.5,,0.9"]
    with pytest.raises(SystemExit, match="1 of 1 videos"):
        prepare("--videos", movie, "--annotations", tmp_path / "gt.csv", "--videos-start-s", 2)


def test_regular_key_frames_have_the_movies_timestamps(prepare, movie):
    rows = prepare("--videos", movie, "--every-s", 2.5, "--videos-start-s", 10000)
    assert [row.split(",")[1] for row in rows] == ["10000", "10002.5", "10005", "10007.5"]
    assert [row.split(",")[4] for row in rows] == ["0.001", "0.026", "0.051", "0.076"]


def test_one_bad_file_loses_nothing_of_the_others(prepare, movie, make_video, tmp_path, capsys):
    make_video(tmp_path / "z.mp4", num_frames=10)
    (tmp_path / "notes.txt").write_text("hi")
    (tmp_path / "cut.mp4").write_bytes(movie.read_bytes()[:3000])
    with pytest.raises(SystemExit, match=r"1 of 3 videos cannot be used:\n.*cut\.mp4: "):
        prepare("--videos", tmp_path)
    assert {row.split(",")[0] for row in prepare.rows} == {"m1", "z"}
    assert "1 files are left out by their ending: 1 .txt" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"1 of 2 videos cannot be used:\n.*notes\.txt: "):
        prepare("--videos", tmp_path / "notes.txt", movie)
    assert {row.split(",")[0] for row in prepare.rows} == {"m1"}


def test_a_link_that_was_planted_is_not_followed(prepare, movie, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "other").write_text("mine")
    (tmp_path / "out/people.csv").symlink_to(tmp_path / "other")
    assert len(prepare("--videos", movie)) == 10
    assert (tmp_path / "other").read_text() == "mine"


def test_where_no_video_can_be_used_what_was_written_before_stays(prepare, movie, tmp_path):
    before = prepare("--videos", movie)
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(SystemExit, match="1 of 1 videos cannot be used"):
        prepare("--videos", tmp_path / "bad.mp4")
    assert prepare.rows == before


def test_two_videos_of_one_name_and_annotations_of_others_are_refused(prepare, movie, tmp_path):
    (tmp_path / "m1.avi").write_bytes(movie.read_bytes())
    with pytest.raises(ConfigError, match="2 of --videos have the id 'm1'"):
        prepare("--videos", tmp_path)
    (tmp_path / "gt.csv").write_text("other,1,0,0,1,1,1,0\n")
    with pytest.raises(DataError, match="gt.csv names none of the videos, but other"):
        prepare("--videos", movie, "--annotations", tmp_path / "gt.csv")


@pytest.mark.parametrize("ending", [".pth", ".pkl"])
def test_a_detector_of_detectron2s(script, movie, tmp_path, ending):
    (tmp_path / "tiny.yaml").write_text(TINY)
    cfg = script.detector_config(str(tmp_path / "tiny.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    weights, path = build_model(cfg).state_dict(), tmp_path / f"weights{ending}"
    weights["head.cls_score.bias"].fill_(2.0)  # it sees people everywhere
    if ending == ".pth":
        torch.save({"model": weights}, path)
    else:
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}))
    words = ["--videos", movie, "--output", tmp_path / "people.csv", "--detector", tmp_path / "tiny.yaml"]
    words += ["--weights", path, "--every-s", 5, "--device", "cpu"]
    script.main(script.parser().parse_args(list(map(str, words))))
    rows = [row.split(",") for row in (tmp_path / "people.csv").read_text().splitlines()]
    assert {row[1] for row in rows} == {"0", "5"}
    assert all(0 <= float(x) <= 1 for row in rows for x in (*row[2:6], row[7]))


@pytest.mark.parametrize("name", ["faster_rcnn_X_101_32x8d_FPN_3x", "retinanet_R_50_FPN_1x", "fast_rcnn_R_50_FPN_1x"])
def test_the_model_zoos_configs_are_what_detectron2_makes_of_them(script, name):
    file = f"COCO-Detection/{name}.yaml"
    cfg = script.detector_config(file)
    assert cfg.dump() == model_zoo.get_config(file).dump()


class Evil:
    """Whose pickle makes a file where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_no_code_of_a_yaml_file_is_run(script, tmp_path):
    for name, line in {
        "apply": f"WEIGHTS: !!python/object/apply:os.mknod ['{tmp_path / 'ran'}']",
        "imports": "IMPORTS: [evil_module]",
        "base": "_BASE_: apply.yaml",
    }.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"MODEL: {{{line}}}\n" if name == "apply" else line + "\n")
        with pytest.raises(ConfigError, match=r"(apply|imports)\.yaml"):
            script.detector_config(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["evil.pkl", "evil.pth", "evil.pyth"])
def test_no_code_of_a_checkpoint_is_run(script, tmp_path, name):
    ran = tmp_path / "ran"
    (tmp_path / name).write_bytes(pickle.dumps({"model": Evil(ran), "__author__": "evil"}))
    with pytest.raises(UserError, match=name):
        script.safe_weights(str(tmp_path / name))
    assert not ran.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert ran.exists()  # the file does what it is meant to where it is read as any pickle


def test_help_takes_no_time(script):
    """Nothing heavy is imported for it."""
    spec = f"import sys; sys.argv = ['x', '--help']; import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    code = f"import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))\n{spec}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"

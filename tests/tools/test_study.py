"""tools/study.py: what it runs, and the table it prints from the files that runs leave."""

import importlib.util
import json
import statistics
from pathlib import Path

import pytest

from vdet_ssl.visualization.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study", ROOT / "tools/study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table(tmp_path):
    """Folder of a study of two methods and two values of rho; one row cannot be run."""
    folder = tmp_path / "table99"
    folder.mkdir()
    (folder / "moco_rho1.yaml").write_text("INPUT:\n  NUM_CLIPS: 1\n")
    (folder / "byol_rho1.yaml").write_text("INPUT:\n  NUM_CLIPS: 1\n")
    (folder / "byol_rho2.yaml").write_text("INPUT:\n  NUM_CLIPS: 2\n")
    (folder / "index.yaml").write_text(
        "title: Table 99. Clips\nmetrics: [K400]\nacross: method\nrows:\n"
        "  - {method: MoCo, rho: 1, config: moco_rho1.yaml}\n"
        "  - {method: BYOL, rho: 1, config: byol_rho1.yaml, paper: {K400: 61.5}}\n"
        "  - {method: MoCo, rho: 2, config: null, note: not possible here}\n"
        "  - {method: BYOL, rho: 2, config: byol_rho2.yaml, paper: {K400: 66.25}, note: the best}\n"
    )
    return folder


def write_run(folder, *lines, finished=True):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "model_final.pth").touch()


def cells(text):
    """The rows of the table in a text: list of lists of stripped cells, the header first."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not row[0].startswith(":")]


def show(study, capsys, *argv):
    assert study.main(["show", *map(str, argv)]) == 0
    return capsys.readouterr().out


def test_table_with_nothing_run(study, table, tmp_path, capsys):
    out = show(study, capsys, table, "--output", tmp_path / "runs")
    assert out.startswith("Table 99. Clips\n")
    assert cells(out) == [
        ["rho", "MoCo K400", "MoCo kNN", "BYOL K400", "BYOL kNN"],
        ["1", "- / missing", "missing", "61.5 / missing", "missing"],
        ["2", "- / missing", "missing", "66.25 / missing", "missing"],
    ]
    assert "- method MoCo rho 2: not possible here" in out and "- method BYOL rho 2: the best" in out


def test_table_of_finished_runs(study, table, tmp_path, capsys):
    output = tmp_path / "runs"
    folder = {
        name: study.run_folder(table / f"{name}.yaml", 0, output) for name in ("moco_rho1", "byol_rho1", "byol_rho2")
    }
    write_run(
        folder["moco_rho1"], {"iteration": 9, "total_loss": 1.0}, {"iteration": 10, "knn/top1": 99.0}, finished=False
    )
    write_run(
        folder["byol_rho1"],
        {"iteration": 0, "knn/top1_init": 12.34},
        {"iteration": 9, "knn/top1": 30.0, "knn/top5": 70.0},
        {"iteration": 20, "knn/top1": 45.67, "knn/top5": 80.0},
    )
    write_run(folder["byol_rho1"] / "K400", {"iteration": 5, "classification/top1": 61.04, "classification/top5": 80.0})
    write_run(folder["byol_rho2"], {"iteration": 20, "total_loss": 1.0})
    assert cells(show(study, capsys, table, "--output", output))[1:] == [
        ["1", "- / missing", "missing", "61.5 / 61.0", "12.3 -> 45.7"],
        ["2", "- / missing", "missing", "66.25 / not run", ""],
    ]


def test_mean_and_deviation_over_seeds(study, table, tmp_path, capsys):
    values = [40.0, 43.0, 41.5]
    for seed, value in enumerate(values):
        folder = study.run_folder(table / "byol_rho2.yaml", seed, tmp_path / "runs")
        write_run(folder, {"iteration": 20, "knn/top1": value, "knn/top1_init": 10.0})
    out = show(study, capsys, table / "byol_rho2.yaml", "--output", tmp_path / "runs", "--seeds", *range(3))
    deviation = statistics.stdev(values)
    assert cells(out)[1][1] == f"10.0 ± 0.0 -> 41.5 ± {deviation:.1f}"
    out = show(study, capsys, table / "byol_rho2.yaml", "--output", tmp_path / "runs", "--seeds", *range(1, 4))
    assert "(2 of 3 seeds)" in cells(out)[1][1]


def test_printed_lines_are_the_missing_runs_of_a_cluster(study, capsys):
    folder = ROOT / "configs/ablations/table15_momentum"
    argv = ["run", str(folder), "--launch", "print", "--num-gpus", "8", "--num-machines", "4", "--seeds", "0", "1"]
    assert study.main([*argv, "SOLVER.MAX_EPOCHS", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(study.read_index(folder / "index.yaml").rows)
    assert lines[1] == (
        'python tools/train_net.py --resume --num-gpus 8 --num-machines 4 --machine-rank "$MACHINE_RANK" --dist-url '
        f'"$DIST_URL" --config-file {folder}/fixed_0.999.yaml '
        "OUTPUT_DIR output/ablations/table15_momentum/fixed_0.999/seed1 SEED 1 SOLVER.MAX_EPOCHS 3"
    )


def test_finished_runs_are_skipped_and_other_overrides_refused(study, table, tmp_path, capsys):
    output, config = tmp_path / "runs", table / "byol_rho1.yaml"
    folder = study.run_folder(config, 0, output)
    write_run(folder, {"iteration": 20, "knn/top1": 50.0})
    assert study.main(["run", str(config), "--output", str(output)]) == 0
    assert f"finished: {folder}" in capsys.readouterr().out
    (folder / "command.txt").write_text("--config-file another.yaml")
    with pytest.raises(SystemExit, match="holds another run"):
        study.main(["run", str(config), "--output", str(output), "SOLVER.MAX_EPOCHS", "3"])


@pytest.mark.slow
def test_a_run_that_fails_is_reported(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = tmp_path / "wrong.yaml"
    config.write_text("NO_SUCH_KEY: 1\n")
    assert study.main(["run", str(config), "--output", str(tmp_path / "runs")]) == 1
    out = capsys.readouterr().out
    assert "failed" in out and "| missing" in out
    assert "NO_SUCH_KEY" in (study.run_folder(config, 0, tmp_path / "runs") / "stdout.txt").read_text()


def test_wrong_input_is_refused(study, tmp_path, capsys):
    with pytest.raises(SystemExit, match="neither a config nor an index.yaml"):
        study.main(["show", str(tmp_path)])
    (tmp_path / "index.yaml").write_text("title: x\nmetrics: [K401]\nrows: []\n")
    with pytest.raises(SystemExit, match="K401"):
        study.main(["show", str(tmp_path)])
    with pytest.raises(SystemExit):
        study.main(["run", str(ROOT / "configs/quick"), "--downstream", "configs/x.yaml"])
    assert "NAME=CONFIG" in capsys.readouterr().err


@pytest.mark.slow
def test_two_configs_from_end_to_end(study, make_video, tmp_path, capsys, monkeypatch):
    """Pre-train with rho = 1 and rho = 2 on real videos; the second call finds both finished."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for i in range(6):
        make_video(tmp_path / f"{i}.mp4", num_frames=20, size=(40, 128))
    (tmp_path / "videos.csv").write_text("".join(f"{i}.mp4,{i % 2}\n" for i in range(6)))
    (tmp_path / "base.yaml").write_text(
        f"DATASETS: {{TRAIN: ['{tmp_path}/videos.csv'], TEST: ['{tmp_path}/videos.csv']}}\n"
        "INPUT: {NUM_FRAMES: 2, SAMPLING_RATE: 4, MIN_SIZE_TRAIN: [36, 40], MIN_SIZE_TEST: 36, CROP: {SIZE: [32, 32]}}\n"
        "MODEL:\n  DEVICE: cpu\n  RESNETS: {DEPTH: 18, STEM_OUT_CHANNELS: 4, RES2_OUT_CHANNELS: 4}\n"
        "  BYOL: {HIDDEN_DIM: 8, EMBED_DIM: 4}\n"
        "SOLVER: {IMS_PER_BATCH: 2, MAX_EPOCHS: 1}\nTEST: {KNN: {ENABLED: true}}\nDATALOADER: {NUM_WORKERS: 0}\n"
    )
    rows = ""
    for rho in (1, 2):
        (tmp_path / f"rho{rho}.yaml").write_text(f"_BASE_: base.yaml\nINPUT: {{NUM_CLIPS: {rho}}}\n")
        rows += f"  - {{rho: {rho}, config: rho{rho}.yaml}}\n"
    (tmp_path / "index.yaml").write_text(f"title: Two runs\nmetrics: []\nrows:\n{rows}")
    argv = ["run", str(tmp_path), "--output", str(tmp_path / "runs"), "SOLVER.BASE_LR", "0.01"]
    assert study.main(argv) == 0
    header, *table = cells(capsys.readouterr().out)
    assert header == ["rho", "kNN"] and [row[0] for row in table] == ["1", "2"]
    for rho, (_, accuracy) in zip((1, 2), table, strict=True):
        folder = study.run_folder(tmp_path / f"rho{rho}.yaml", 0, tmp_path / "runs")
        metrics = study.latest_metrics(folder)
        assert accuracy == f"{metrics['knn/top1_init']:.1f} -> {metrics['knn/top1']:.1f}"
        assert read_metrics(folder / "metrics.json")["knn/top1"].iterations[-1] == 3
        assert (folder / "config.yaml").is_file()
    assert study.main(argv) == 0
    assert capsys.readouterr().out.count("finished: ") == 2

#!/usr/bin/env python3
"""Run a set of configs and print the outcome as the paper's table, the paper's figures beside ours.

    tools/study.py run configs/ablations/table02_num_clips --num-gpus 8 TEST.KNN.ENABLED True
    tools/study.py run configs/ablations/table02_num_clips --launch print --num-gpus 8 --num-machines 8
    tools/study.py show configs/ablations/table02_num_clips --seeds 0 1 2

A set is a folder with an index.yaml (see configs/ablations) or single configs.  Each run has a folder of its own,
OUTPUT/<config>/seed<n>: finished runs are skipped, others are started or resumed.  KEY VALUE pairs go to every
pre-training; another choice of them needs another --output.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tabulate import tabulate

from vdet_ssl.errors import one_line_errors
from vdet_ssl.visualization.metrics_file import read_metrics

TOOLS = Path(__file__).resolve().parent
# Figures of tasks that start from a pre-trained backbone: column -> what the task's evaluator calls it.  The task runs in
# the folder <run>/<column>.
TASK_METRICS = {
    **dict.fromkeys(("K400", "K600", "K700", "UCF101", "HMDB51", "SSv2"), "top1"),
    **dict.fromkeys(("AVA", "Charades"), "mAP"),
}


@dataclass
class Row:
    """An experiment: what is varied, its config (None: not possible here), the paper's figures by column, a remark."""

    settings: dict
    config: Path | None
    paper: dict = field(default_factory=dict)
    note: str = ""


@dataclass
class Study:
    """A table: its rows, the columns of figures, and the setting whose values stand side by side ("": none)."""

    title: str
    rows: list
    metrics: list = field(default_factory=list)
    across: str = ""


def read_studies(paths):
    """Return a Study for each folder with an index.yaml, and one for all single configs together."""
    configs = [Path(p) for p in paths if os.path.isfile(p)]
    studies = [read_index(Path(p) / "index.yaml") for p in paths if not os.path.isfile(p)]
    if configs:
        studies.append(Study("", [Row({"config": str(config)}, config) for config in configs]))
    return studies


def read_index(path):
    if not path.is_file():
        sys.exit(f"{path.parent}: there is neither a config nor an index.yaml there")
    index = yaml.safe_load(path.read_text())
    unknown = set(index["metrics"]) - set(TASK_METRICS)
    if unknown:
        sys.exit(f"{path}: unknown metrics {sorted(unknown)}; there are {sorted(TASK_METRICS)}")
    rows = []
    for row in index.pop("rows"):
        config = row.pop("config")
        config = None if config is None else Path(os.path.normpath(path.parent / config))
        rows.append(Row(config=config, paper=row.pop("paper", {}), note=row.pop("note", ""), settings=row))
    return Study(rows=rows, **index)


def run_folder(config, seed, output):
    parts = Path(os.path.relpath(config.with_suffix(""), TOOLS.parent)).parts
    return Path(output, *(p for p in parts if p not in ("..", "configs")), f"seed{seed}")


def is_finished(folder):
    return (folder / "model_final.pth").is_file()


def run_all(studies, args):
    """Run what is not finished, or print the lines that would; return the number of runs that failed."""
    configs = {row.config: None for study in studies for row in study.rows if row.config is not None}
    failed = 0
    for config in configs:
        for seed in args.seeds:
            folder = run_folder(config, seed, args.output)
            failed += launch(config, folder, ["SEED", str(seed), *args.overrides], args)
            for task in args.downstream:
                name, task_config = task.split("=", 1)
                weights = ["MODEL.WEIGHTS", str(folder / "model_final.pth"), "SEED", str(seed)]
                if args.launch == "print" or is_finished(folder):
                    failed += launch(task_config, folder / name, weights, args)
    return failed


def launch(config, folder, overrides, args):
    """Start or resume one run unless it is finished; return whether it failed."""
    job = shlex.join(["--config-file", str(config), "OUTPUT_DIR", str(folder), *overrides])
    command = [sys.executable, str(TOOLS / "train_net.py"), "--resume", "--num-gpus", str(args.num_gpus)]
    if args.launch == "print":
        machines = ""
        if args.num_machines > 1:
            machines = f'--num-machines {args.num_machines} --machine-rank "$MACHINE_RANK" --dist-url "$DIST_URL" '
        print(f"{shlex.join(['python', 'tools/train_net.py', *command[2:]])} {machines}{job}")
        return False
    record = folder / "command.txt"
    if record.is_file() and record.read_text() != job:
        sys.exit(f"{folder} holds another run ({record.read_text()}); choose another --output for\n{job}")
    if is_finished(folder):
        print(f"finished: {folder}")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(job)
    print(f"running: {folder}", flush=True)
    with open(folder / "stdout.txt", "a") as stdout:
        code = subprocess.call([*command, *shlex.split(job)], stdout=stdout, stderr=subprocess.STDOUT)
    if code:
        print(f"failed (exit status {code}): see {folder}/stdout.txt")
    return code != 0


def latest_metrics(folder):
    """Return the latest value of everything in a finished run's metrics.json; {} for a run that is not finished."""
    path = folder / "metrics.json"
    if not (is_finished(folder) and path.is_file()):
        return {}
    return {name: float(series.values[-1]) for name, series in read_metrics(path).items()}


def measured(folders, name):
    """Return the mean over runs of the metric called `name` or `.../name`, with its deviation, as text; "" for none."""
    found = []
    for folder in folders:
        found += [v for k, v in latest_metrics(folder).items() if k == name or k.endswith(f"/{name}")][:1]
    if not found:
        return ""
    text = f"{statistics.mean(found):.1f}"
    if len(found) > 1:
        text += f" ± {statistics.stdev(found):.1f}"
    return text if len(found) == len(folders) else f"{text} ({len(found)} of {len(folders)} seeds)"


def row_cells(row, metrics, args):
    """Return column -> text: the paper's figure / ours for each metric, and the kNN accuracy of pre-training itself."""
    folders = [] if row.config is None else [run_folder(row.config, seed, args.output) for seed in args.seeds]
    finished = any(is_finished(folder) for folder in folders)
    cells = {}
    for name in metrics:
        ours = measured([folder / name for folder in folders], TASK_METRICS[name])
        cells[name] = f"{row.paper.get(name, '-')} / {ours or ('not run' if finished else 'missing')}"
    before, after = measured(folders, "knn/top1_init"), measured(folders, "knn/top1")
    if not finished:
        cells["kNN"] = "missing"
    elif after:
        cells["kNN"] = f"{before} -> {after}" if before else after
    return cells


def format_study(study, args):
    """Return the table as text."""
    lines, columns = {}, []
    for row in study.rows:
        key = tuple((name, value) for name, value in row.settings.items() if name != study.across)
        for name, text in row_cells(row, study.metrics, args).items():
            column = f"{row.settings[study.across]} {name}" if study.across else name
            columns += [column] if column not in columns else []
            lines.setdefault(key, {})[column] = text
    settings = list(dict(next(iter(lines))))
    body = [[*dict(key).values(), *(cells.get(c, "") for c in columns)] for key, cells in lines.items()]
    table = tabulate(body, headers=[*settings, *columns], tablefmt="pipe", disable_numparse=True)
    notes = [f"- {' '.join(f'{k} {v}' for k, v in r.settings.items() if v)}: {r.note}" for r in study.rows if r.note]
    legend = "Cells: paper / here, in %.  " if study.metrics else ""
    legend += "kNN: top-1 accuracy in %, random initialisation -> after pre-training."
    return "\n".join([study.title, "", table, "", legend, *notes])


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.usage = "%(prog)s {run,show} PATH ... [options] [KEY VALUE ...]"
    parser.add_argument("action", choices=("run", "show"), help="run: train what is missing, then show the table")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a folder with an index.yaml, or a config")
    parser.add_argument("--launch", choices=("local", "print"), default="local", help="print: lines for a cluster")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on each machine")
    parser.add_argument("--num-machines", type=int, default=1, help="machines of a printed line")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", default="output", help="folder of all runs")
    parser.add_argument(
        "--downstream",
        nargs="+",
        default=[],
        metavar="NAME=CONFIG",
        help="tasks to train from each pre-trained backbone",
    )
    first_key = next((i for i, word in enumerate(argv) if word.isupper()), len(argv))
    args = parser.parse_args(argv[:first_key])
    args.overrides = argv[first_key:]
    unknown = [task for task in args.downstream if task.split("=")[0] not in TASK_METRICS or "=" not in task]
    if unknown:
        parser.error(f"--downstream {unknown[0]}: takes NAME=CONFIG with a NAME among {', '.join(TASK_METRICS)}")
    return args


def main(argv):
    args = parse_args(argv)
    studies = read_studies(args.paths)
    failed = run_all(studies, args) if args.action == "run" else 0
    if args.action == "show" or args.launch == "local":
        print("\n\n".join(format_study(study, args) for study in studies))
    return failed


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(min(main(sys.argv[1:]), 1))

"""README and docs: every command is understood by its script, every key, link and piece of code is right, and the page
on getting started is run as it stands.
"""

import argparse
import ast
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog

from vdet_ssl.config import check_values, get_cfg, load_cfg, refuse_unread
from vdet_ssl.engine import trainer_class
from vdet_ssl.solver import resolve_schedule

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "datasets/README.md")),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("configs/**/README.md"),
        *ROOT.glob("projects/*/README.md"),
    ]
)
SHELL = ("pip", "source", "export", "tar")  # commands that are not ours
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEY = re.compile(r"[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+")


@pytest.fixture(autouse=True)
def packages_of_extending(monkeypatch):
    """docs/extending.md puts them on Python's path."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/extending"))


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(page, language):
    """Return the fenced blocks of a page in a language."""
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


@dataclass(frozen=True)
class Command:
    """A command of a page, as a shell would split it."""

    page: Path
    words: tuple

    def __str__(self):
        return f"{name_of(self.page)}: {shlex.join(self.words)}"[:100]


def commands(page):
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [Command(page, tuple(words)) for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = [command for page in PAGES for command in commands(page)]
OURS = [command for command in COMMANDS if command.words[0] not in SHELL]
TRAININGS = [c for c in OURS if "tools/train_net.py" in c.words and not {"--eval-only", "--resume"} & {*c.words}]


class Parsed(BaseException):
    """Ends a script once its parser has taken the arguments; not an Exception, so that no script catches it."""


def parse(words, monkeypatch):
    """Return what a script's own parser makes of its arguments; the script goes no further."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser, args=None, namespace=None):
        raise Parsed(parse_args(parser, args, namespace))

    script = ROOT / words[0]
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [str(script), *words[1:]])
        patch.syspath_prepend(str(script.parent))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{script} does not parse its arguments")


def config_of(args, monkeypatch):
    """Return a command's config; OUTPUT_DIR/config.yaml is the config of the command that writes OUTPUT_DIR."""
    if not args.config_file.startswith("output/"):
        return load_cfg(str(ROOT / args.config_file) if args.config_file else "", args.opts)
    folder = str(Path(args.config_file).parent)
    writers = [c for c in COMMANDS if ("OUTPUT_DIR", folder) in pairwise(c.words)]
    assert writers, f"no command writes {args.config_file}"
    cfg = config_of(parse(writers[0].words[1:], monkeypatch), monkeypatch)
    cfg.merge_from_list(args.opts)
    return cfg


@pytest.mark.parametrize("command", OURS, ids=str)
def test_a_command_is_understood(command, monkeypatch, capsys):
    program, *arguments = command.words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
        return
    assert program == "python", f"{command}: say python, or add {program} to SHELL"
    if "argparse" not in (ROOT / arguments[0]).read_text():
        assert len(arguments) == 1
        return
    try:
        args = parse(arguments, monkeypatch)
    except SystemExit:
        pytest.fail(f"{command}: {capsys.readouterr().err}")
    if hasattr(args, "config_file"):
        check_values(config_of(args, monkeypatch))


@pytest.fixture(scope="module")
def data_sets(make_video, tmp_path_factory):
    """kind of data set -> one that is trained and evaluated on, and its proposals, all of it small."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("a", "b"):  # kNN compares one with the other
        make_video(folder / f"{name}.mp4", num_frames=30)
    (folder / "list.csv").write_text("a.mp4,0\nb.mp4,0\n")
    (folder / "boxes.csv").write_text("a,0.5,0.1,0.1,0.9,0.9,1,0\n")
    (folder / "proposals.csv").write_text("a,0.5,0.1,0.1,0.9,0.9,,1.0\n")
    (folder / "actions.pbtxt").write_text('item { name: "walk" id: 1 }')
    (folder / "boxes.yaml").write_text("annotations: boxes.csv\nlabel_map: actions.pbtxt\nvideos: .\n")
    return {"videos": folder / "list.csv", "key_frames": folder / "boxes.yaml"}, folder / "proposals.csv"


@pytest.mark.parametrize("command", TRAININGS, ids=str)
def test_a_training_sets_only_what_it_reads(command, data_sets, tmp_path, monkeypatch):
    args = parse(command.words[1:], monkeypatch)
    cfg = config_of(args, monkeypatch)
    by_kind, proposals = data_sets
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (str(by_kind[trainer_class(cfg).data_kind]),)
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = (str(proposals),)
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = "meta", str(tmp_path)
    resolve_schedule(cfg, num_samples=10**6)
    with torch.device("meta"):
        trainer = trainer_class(cfg)(cfg)
    cfg.record.reads.add("MODEL.WEIGHTS")  # by resume_or_load, from a file that is not there
    refuse_unread(cfg, evaluates=bool(trainer.evaluations))


def test_a_wrong_command_is_found(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parse(["tools/train_net.py", "--config-fil", "x.yaml", "--no-such-option"], monkeypatch)
    with pytest.raises(SystemExit):
        parse(["datasets/prepare_shards.py", "a.tar"], monkeypatch)
    assert "output" in capsys.readouterr().err
    with pytest.raises(ValueError, match="DATASETS.TRAIN"):
        config_of(parse(["tools/train_net.py", "DATASETS.TRAN", "x.csv"], monkeypatch), monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_exist_and_take_the_values_given(page):
    """In `code` of a text: KEY, or KEY VALUE pairs."""
    known = set(get_cfg().key_names())
    text = FENCE.sub("", page.read_text())
    for code in re.findall(r"`([^`\n]+)`", text):
        keys = [key for key in KEY.findall(code) if not key.endswith("_")]
        assert set(keys) <= known, code
        words = shlex.split(code) if KEY.match(code) else []
        if len(words) > 1:
            check_values(load_cfg("", words))


def test_data_sets_that_are_named_are_registered():
    name = re.compile(r"\b(?:kinetics\d+|ig_\w+|web_\w+|ava_v[\d.]+)_(?:train|val)(?:_frames)?\b")
    named = {found for page in PAGES for found in name.findall(page.read_text())}
    assert "ava_v2.2_train_frames" in named
    assert named <= set(DatasetCatalog.list())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_code_imports_what_there_is(page, tmp_path):
    for code in blocks(page, "python"):
        imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        run_python(ast.unparse(ast.Module(imports, [])), tmp_path)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/api/*.md")), ids=name_of)
def test_modules_of_the_api_exist(page):
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
        importlib.import_module(name)


def run_python(code, folder):
    (folder / "code_of_page.py").write_text(code)
    runpy.run_path(str(folder / "code_of_page.py"))


def make_tiny(words, monkeypatch):
    """Return what to add to a command so that it takes seconds."""
    if words[1] == "datasets/prepare_synthetic.py":
        counts = [name for name in vars(parse(words[1:], monkeypatch)) if name.endswith("_videos")]
        return [word for name in counts for word in (f"--{name.replace('_', '-')}", "4")]
    if words[1] == "tools/train_net.py" and "--eval-only" not in words:
        return ["SOLVER.MAX_EPOCHS", "1", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.IMS_PER_BATCH", "4"]
    return []


@pytest.mark.slow
def test_getting_started_works_as_it_stands(tmp_path, monkeypatch, capsys):
    """Its commands in their order, with fewer videos and iterations; then its Python."""
    for folder in ("configs", "datasets", "projects", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    page = ROOT / "docs/getting_started.md"
    for command in commands(page):
        if command.words[0] != "python" or "install_detectron2" in command.words[1]:
            continue
        words = [sys.executable, *command.words[1:], *make_tiny(command.words, monkeypatch)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    results = [*tmp_path.glob("output/detector/**/results.json"), tmp_path / "output/detector/ava.json"]
    figures = [json.loads(path.read_text())["mAP"] for path in results]
    assert len(figures) == 3 and figures == pytest.approx([figures[0]] * 3, abs=1e-9)
    assert (tmp_path / "output/detections/val_00000_annotated.mp4").exists()
    assert (tmp_path / "output/drawn/val_00001_annotated.mp4").exists()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for code in blocks(page, "python"):
        run_python(code, tmp_path)
    assert len(capsys.readouterr().out.splitlines()) >= 2  # a line for each key frame

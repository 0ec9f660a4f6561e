"""Pages and headers of configs are true: options, classes, files are there, figures are stored, examples run."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from l2nnn_lightning import __main__ as commands
from l2nnn_lightning.data import DATAMODULES, ImageDataModule
from l2nnn_lightning.evaluation.options import DashboardOptions, EvaluateOptions, ExportOptions, PredictOptions
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.study.run import StudyOptions
from l2nnn_lightning.models import Network
from l2nnn_lightning.nn.layouts import layout_of
from l2nnn_lightning.training import arguments
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.explain import _options, _subclasses
from l2nnn_lightning.training.objectives import Objective

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
KINDS: dict[str, type] = {
    "network": Network,
    "objective": Objective,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
}
MODEL_OPTIONS = {part: set().union(*map(_options, _subclasses(kind))) for part, kind in KINDS.items()}
OPTIONS = {
    command: {field.name for field in fields(kind)}
    for command, kind in {
        "evaluate": EvaluateOptions,
        "predict": PredictOptions,
        "export": ExportOptions,
        "dashboard": DashboardOptions,
        "study": StudyOptions,
        "benchmark": BenchmarkOptions,
    }.items()
}
SOURCES = [file.read_text(encoding="utf-8") for file in (ROOT / "l2nnn_lightning").rglob("*.py")]
DEFINED = {name for text in SOURCES for name in re.findall(r"^(?:class )?([A-Z]\w*)(?:\(|:| =)", text, re.M)}
ELSEWHERE = {"ValueError", "WandbLogger", "LRScheduler", "L2CarliniWagnerAttack"}
PLACEHOLDERS = re.compile(r"RUN|FILE|NAME|LABEL|FOLDER|OTHER|YOURS|DIR|my_package|\*|\.\.\.")


def text_of(path: Path) -> str:
    """The page without its generated tables; of a config, its header."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        return "\n".join(re.findall(r"^# ?(.*)", text, re.M))
    return re.sub(r"(<!-- (?:results|study|compare).*?-->).*?<!-- end -->", r"\1", text, flags=re.S)


everywhere = pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=lambda path: path.name)


@everywhere
def test_options_of_training_are_there(path: Path) -> None:
    text = re.sub(r"my_package\.(\w+)", r"\1", text_of(path))
    for part, option in re.findall(r"--model\.(\w+)(?:\.(\w+))?", text):
        assert part not in arguments.MOVED, f"--model.{part} has moved"
        if part not in KINDS:
            assert part in _options(Classifier), f"--model.{part}"
        elif option and option != "help":
            known = MODEL_OPTIONS[part] | ({"margin", "width"} if path.name == "extending.md" else set())
            assert option in known, f"--model.{part}.{option}"
    for option in re.findall(r"--data\.(\w+)", text):
        assert option in set().union(*map(_options, _subclasses(ImageDataModule))) | {"help"}, f"--data.{option}"
    for option in re.findall(r"--trainer\.(\w+)", text):
        assert option in _options(pl.Trainer), f"--trainer.{option}"


@everywhere
def test_options_of_other_commands_are_there(path: Path) -> None:
    for command, rest in re.findall(
        r"(evaluate(?=\.py)|(?<=-m l2nnn_lightning )\w+|(?<=^l2nnn )\w+|(?<=`l2nnn )\w+)([^`|&#]*)", text_of(path), re.M
    ):
        if command == "study" and " sweep" in rest:  # it takes those of a training, too
            continue
        given = set(re.findall(r"(?<= --)\w+", rest.split("\n")[0]))
        assert given <= OPTIONS.get(command, given), command


def name_exists(name: str) -> bool:
    """Whether ``l2nnn_lightning.a.b.C``, or a command of it, is there."""
    module, _, last = name.rpartition(".")
    try:
        return bool(importlib.import_module(name))
    except ImportError:
        return hasattr(importlib.import_module(module), last)


@everywhere
def test_paths_and_commands_are_there(path: Path) -> None:
    text = text_of(path)
    whole = path.read_text(encoding="utf-8") if path.suffix == ".yaml" else text
    for name in set(re.findall(r"\bl2nnn_lightning(?:\.\w+)+", whole)):
        assert name_exists(name), name
    for command in re.findall(r"(?:-m l2nnn_lightning|^l2nnn|`l2nnn) (\w+)", text, re.M):
        assert command in {*commands._COMMANDS, "COMMAND"}, command
    for named in set(re.findall(r"\b(?:configs|results|docs|notebooks|tests|l2nnn_lightning)/[\w./*-]*\w", text)):
        if PLACEHOLDERS.search(named):
            assert list(ROOT.glob(named)) or not named.count("*"), named
        else:
            assert (ROOT / named).exists(), named
    rooms = "nn|models|attacks|data|training|evaluation|experiments"
    for named in set(re.findall(rf"`((?:{rooms})/[\w/]+\.py)`", text)):
        assert (ROOT / "l2nnn_lightning" / named).is_file(), named


@everywhere
def test_classes_are_there(path: Path) -> None:
    """Those in code and after an option; the examples' own are defined beside them."""
    text = text_of(path)
    named = set(re.findall(r"(?:--model(?:\.\w+)?|--data|callbacks\+=|class_path:) *([A-Z]\w+)", text))
    if path.suffix == ".md":
        code = " ".join(re.findall(r"`([^`\n]+)`", text))
        named |= set(re.findall(r"(?<![\w./])([A-Z]\w*[a-z]\w*[A-Z]\w*)\b", code))
    known = DEFINED | set(re.findall(r"class (\w+)", text)) | ELSEWHERE | set(DATAMODULES)
    assert named <= known


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_headers_hold_no_figure_of_ours(path: Path) -> None:
    """What was measured stands in results/, which a header names."""
    for sentence in re.findall(r"Ours:(.*?)(?:\.\s|\.?$)", text_of(path).replace("\n", " ")):
        left = re.sub(r"results/[\w.-]+|--\S+ [\w.-]+|python [^)]*|tables? \d+( and \d+)?", "", sentence)
        assert not re.search(r"(?<!\w)\d", left), sentence


def test_the_hybrids_held_out_figures_are_those_stored() -> None:
    said = re.search(
        r"is ([\d.]+) for the paper's form and ([\d.]+) for the tighter bound \(([\d.]+) and ([\d.]+)%",
        text_of(ROOT / "docs" / "results.md"),
    )
    assert said is not None
    stored = [json.loads((ROOT / f"results/hybrid_held_out_{name}.json").read_text()) for name in ("l2nnn", "tight")]
    assert [f"{result['hybrid']['threshold']:g}" for result in stored] == [said[1], said[2]]
    assert [f"{100 * result['hybrid']['delegated']:.1f}" for result in stored] == [said[3], said[4]]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The examples of docs/extending.md, as one module."""
    folder = tmp_path_factory.mktemp("examples")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.S)
    (folder / "my_package.py").write_text("\n\n".join(blocks), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("my_package")
    sys.modules.pop("my_package", None)


def test_the_examples_are_sound(examples: Any) -> None:
    x = torch.randn(2, 50, dtype=torch.float64)
    moved = examples.Absolute()(x)
    assert float((moved[0] - moved[1]).norm()) <= float((x[0] - x[1]).norm())
    layer = torch.nn.Conv2d(3, 4, 3, padding=1)
    squares = examples.frobenius(layer.weight, layout_of(layer))
    assert float(squares) >= float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) ** 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_examples_train_and_are_attacked_and_measured(
    examples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = "--data my_package.Halves --data.batch_size 50 --data.augment none --data.val_size 20"
    options += " --model.network my_package.MyNetwork --model.network.width 32 --model.network.certificate pairwise"
    options += " --model.objective my_package.SquaredHinge --model.objective.margin 2"
    options += " --model.optimizer my_package.SignDescent --model.optimizer.lr 0.1 --trainer.max_epochs 6"
    options += " --model.scheduler.warmup_steps 5"
    options += f" --trainer.accelerator cpu --run_dir {tmp_path / 'run'}"
    assert commands.train(["--config", str(ROOT / "configs/mnist5k.yaml"), *options.split()]) == 0
    importlib.import_module("l2nnn_lightning.evaluation.command")
    for name, module in list(sys.modules.items()):  # as its name in results.py would
        if name.startswith("l2nnn_lightning.evaluation.") and hasattr(module, "MEASURES"):
            monkeypatch.setattr(module, "MEASURES", (examples.Mirrored,))
    monkeypatch.setenv("L2NNN_TRUST", "my_package")
    options = f"--ckpt_path {tmp_path / 'run/checkpoints/last.ckpt'} --attacks my_package.OneStep --eps 1 --device cpu"
    assert commands.evaluate(options.split()) == 0
    results = json.loads((tmp_path / "run/evaluation/results.json").read_text(encoding="utf-8"))
    assert results["dataset"] == "my_package.Halves"
    assert results["accuracy"] > 0.8
    assert results["radius_mean"] > 0
    assert results["attacks"][0]["accuracy"] < results["accuracy"]
    assert 0 <= results["mirrored"]["share"] < 0.5  # left becomes right


def test_the_readmes_snippets_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {"images": torch.rand(3, 1, 28, 28)}
    for block in blocks:
        exec(block, names)
    assert names["radius"].shape == (3,)
    torch.testing.assert_close(names["plain"](names["images"]), names["net"].eval()(names["images"]))


def test_the_readme_is_short_and_its_first_command_comes_first() -> None:
    lines = PAGES[0].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("make demo") for line in lines[:25])
    (table,) = re.findall(r"^(?:\|.*\n)+", PAGES[0].read_text(encoding="utf-8"), re.M)
    assert len(table.splitlines()) - 2 <= 8
    assert len(arguments.HELP.splitlines()) <= 60


def test_every_page_is_in_the_sites_list_and_every_link_of_readme_leads_somewhere() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[2:] if page.name not in site] == []
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", PAGES[0].read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for pair in links for link in pair if link and not (ROOT / link).exists()] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_the_quickstart_trains_certifies_and_attacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "notebooks/quickstart.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "clear the outputs before committing"
            exec(compile("".join(cell["source"]), f"<cell {cell['id']}>", "exec"), names)
    assert names["accuracy"] > 0.85
    assert float(names["certificate"].radius.mean()) > 0.1
    assert int(names["broken"].sum()) >= 8
    assert bool((names["distances"] > names["radii"]).logical_or(~names["broken"]).all())

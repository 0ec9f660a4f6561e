"""The shipped configs and overlays: through the parser of train.py, that they build what their headers say."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.command import TrainCLI

ROOT = Path(__file__).parents[2]
BASES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if path.stem != "sweep")
OVERLAYS = sorted(path.stem for path in (ROOT / "configs" / "overlays").glob("*.yaml"))
# Of a command line, in prose: --name value, --name 'value' or --name=value.
OPTION = r"--[\w.+]+(?:=[^\s()]+| '[^']*'| [^\s();:]+)"
MADRY = {"mnist": (0.3, 40, 0.01), "mnist5k": (0.3, 40, 0.01), "cifar10": (8 / 255, 7, 2 / 255)}

pytestmark = [
    # Lightning 2.6 calls jsonargparse by names that it has deprecated since.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Here the command line is pytest's.
    pytest.mark.filterwarnings("ignore:.*args parameter is intended to run from within Python"),
]


class Built(Exception):  # noqa: N818 (no error)
    pass


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Build model and data as the command does, with its checks, and stop before the trainer is."""

    def stop(cli: TrainCLI, **_: Any) -> None:
        raise Built(cli.config_init, cli.config)

    def run(*args: str) -> tuple[Namespace, Namespace]:
        with pytest.raises(Built) as built:
            TrainCLI(args, "test")
        return built.value.args  # type: ignore[return-value]

    monkeypatch.setattr(TrainCLI, "instantiate_trainer", stop)
    monkeypatch.setenv("L2NNN_RUN_DIR", "")
    monkeypatch.chdir(tmp_path)
    return run


def header(path: Path) -> str:
    return "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))


def check(built: Namespace) -> Classifier:
    model, data = built.model, built.data
    model.eval()
    with torch.no_grad():
        assert model(torch.rand(2, *data.image_shape)).shape == (2, data.num_labels)
    optimizer = model.optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert model.scheduler(optimizer).get_last_lr()[0] > 0
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", BASES)
def test_config_builds_a_classifier_that_fits_its_data(build: Any, images: Path, name: str) -> None:
    own = ["--data.root", str(images)] if name == "own_images" else []
    built, config = build("--config", str(ROOT / f"configs/{name}.yaml"), *own)
    model = check(built)
    assert model.network.can_prove is ("ordinary" not in name)
    # What begins soft has a callback that makes it hard.
    callbacks = [callback["class_path"].rpartition(".")[2] for callback in config.trainer.callbacks or []]
    assert ("HardScalingSwitch" in callbacks) is (model.network.can_prove and not model.is_hard)
    assert built.data.adversarial is ("adversarial" in name)
    if (paper := MADRY.get(name.partition("_")[0])) is not None:
        assert (built.data.attack.eps, built.data.attack.steps, built.data.attack.step_size) == paper


@pytest.mark.parametrize("path", [*BASES, *(f"overlays/{name}" for name in OVERLAYS)])
def test_commands_and_options_in_the_headers_build(build: Any, images: Path, path: str) -> None:
    head = header(ROOT / f"configs/{path}.yaml").replace("\n# ", " ").replace("FOLDER", str(images))
    lines = [line.rstrip(" .,") for line in re.findall(rf"(?:python train\.py )?(?:{OPTION} ?)+", head)]
    full = next(line for line in lines if line.startswith("python train.py "))
    assert f"--config configs/{path}.yaml" in full
    if "overlays" not in path:
        assert f"runs/{path}/version_0/checkpoints/last.ckpt" in head or "evaluate.py" not in head
    for line in lines:
        if not line.startswith("--ckpt_path"):
            command = line if line.startswith("python") else f"{full} {line}"
            check(build(*shlex.split(command.replace("configs/", f"{ROOT}/configs/"))[2:])[0])


def test_overlays_change_what_they_name_alone(build: Any) -> None:
    """The options of a class survive an overlay that sets others of the same class."""
    base = build("--config", f"{ROOT}/configs/mnist_conv.yaml")[1]
    for name, network, objective in (
        ("one_omega", {}, {"omega_late": None}),
        ("tight", {"bound": "operator_columns", "hard": True}, {}),
        ("noisy_labels", {}, {"omega_late": None, "u": 1.0, "v": 1.0, "train_v": False}),
    ):
        overlay = f"{ROOT}/configs/overlays/{name}.yaml"
        config = build("--config", f"{ROOT}/configs/mnist_conv.yaml", "--config", overlay)[1]
        for part, changes in (("network", network), ("objective", objective)):
            mine, theirs = (dict(found.model.init_args[part].init_args) for found in (config, base))
            assert mine == theirs | changes
        assert config.model.init_args.optimizer == base.model.init_args.optimizer
        callbacks = [callback["class_path"].rpartition(".")[2] for callback in config.trainer.callbacks]
        assert callbacks == ["HardScalingSwitch"] + ["NoisyLabelMonitor"] * (name == "noisy_labels")


def test_a_class_that_a_config_names_has_its_own_defaults(build: Any, tmp_path: Path) -> None:
    """The parser hands what a default class has on to the class that takes its place, where the names are alike."""
    parts = {"network": "SeparateL2NNNs", "optimizer": "torch.optim.NAdam"}
    model = {name: {"class_path": kind} for name, kind in parts.items()}
    config = tmp_path / "mine.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": {"class_path": "L2NNNClassifier", "init_args": model},
                "data": {"class_path": "CIFAR10DataModule"},
            }
        )
    )
    found = build("--config", str(config))[1].model.init_args
    assert found.network.init_args.kernel_size == 3  # ConvL2NNN's is 5
    assert found.optimizer.init_args.lr == 2e-3  # ScaledAdam's is 1e-3


def test_sweep_names_options_that_there_are(build: Any) -> None:
    sweep = yaml.safe_load((ROOT / "configs/sweep.yaml").read_text())
    options = [part for part in sweep["command"] if part.startswith("--config=") and "logger" not in part]
    options = [part.replace("=", f"={ROOT}/") for part in options]
    for name, space in sweep["parameters"].items():
        value = space.get("value", space.get("values", [space.get("min")])[0])
        options += [f"--{name}", yaml.safe_dump(value).split("\n")[0]]
    config = build(*options)[1]
    assert config.model.init_args.objective.init_args.train_v is False

"""The configs of tables 1 and 2: that they build what their headers say."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.data import ImageDataModule

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = [f"table1_model{i}" for i in (1, 2, 4)] + [f"table2_model{i}" for i in (1, 2, 3, 4)]
NAMES += ["mnist5k_plain", "mnist5k_plain_adversarial", "mnist5k_adversarial"]


def read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return values


def build(part: dict[str, Any], **more: Any) -> Any:
    module, _, name = part["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**part.get("init_args", {}), **more)


@pytest.mark.parametrize("name", NAMES)
def test_config_builds_a_classifier_that_fits_its_data(name: str) -> None:
    config = read(name)
    data = build(config["data"])
    assert isinstance(data, ImageDataModule)
    model = build(config["model"], image_shape=data.image_shape, num_labels=data.num_labels).eval()
    with torch.no_grad():
        assert model(torch.rand(2, *data.image_shape)).shape == (2, 10)
    assert isinstance(model, L2NNNClassifier) == (name[-1] in "34" or name == "mnist5k_adversarial")
    assert data.adversarial == (name[-1] in "24" or "adversarial" in name)
    if name.startswith("table"):
        madry = (8 / 255, 7, 2 / 255) if name.startswith("table2") else (0.3, 40, 0.01)
        assert (data.attack.eps, data.attack.steps, data.attack.step_size) == madry
    else:
        assert data.attack.eps == 0.3
    header = (CONFIGS / f"{name}.yaml").read_text().split("model:")[0]
    assert f"python train.py --config configs/{name}.yaml" in header
    assert f"runs/{name}/version_0/checkpoints/last.ckpt" in header


@pytest.mark.parametrize(("plain", "adversarial"), [("mnist", "table1_model4"), ("table2_model3", "table2_model4")])
def test_adversarial_twin_differs_in_the_adversarial_images_alone(plain: str, adversarial: str) -> None:
    twin = read(adversarial)
    assert twin["data"]["init_args"].pop("adversarial") is True
    assert twin == read(plain)


def test_small_adversarial_twin_is_the_demo() -> None:
    demo, twin = read("mnist5k"), read("mnist5k_adversarial")
    for key in ("adversarial", "attack"):
        del twin["data"]["init_args"][key]
    del demo["trainer"]["max_epochs"], twin["trainer"]["max_epochs"]
    assert twin == demo

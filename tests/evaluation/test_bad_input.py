"""Bad input of every command of this room: one line that says what to do, exit code 2, and nothing written."""

import shutil
from pathlib import Path

import pytest
import torch
from terminal import Terminal

from l2nnn_lightning.__main__ import main
from l2nnn_lightning.data import ImageFolderDataModule

EVALUATE = "evaluate --ckpt_path CKPT --output out"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # wandb-workspaces, in the manner of an older pydantic
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{EVALUATE} --attacks cw,deepfool", "--attacks: unknown attack 'deepfool': use one of cw, cw_linf, pgd_l2,"),
        (f"{EVALUATE} --attacks pgd_l1", "did you mean pgd_l2?"),
        (f"{EVALUATE} --eps 0", "error: --eps must be positive and finite, got 0.0; see evaluate.py --help\n"),
        (f"{EVALUATE} --eps nan", "--eps: expected float, got nan"),
        (f"{EVALUATE} --eps wide", "--eps: expected float, got wide"),
        (f"{EVALUATE} --limit 0", "error: --limit must be at least 1, got 0; see evaluate.py --help\n"),
        (f"{EVALUATE} --max_iter 0", "--max_iter must be at least 1, got 0"),
        (f"{EVALUATE} --max_iter 100,many", "--max_iter must be whole numbers separated by commas, got '100,many'"),
        (f"{EVALUATE} --restarts 0", "error: --restarts must be at least 1, got 0; see evaluate.py --help\n"),
        (f"{EVALUATE} --processes 0", "error: --processes must be at least 1, got 0; see evaluate.py --help\n"),
        (f"{EVALUATE} --processes 2 --device cuda", "--processes is for the CPU: start one process for each GPU with"),
        (f"{EVALUATE} --jacobian 0", "error: --jacobian must be at least 1, got 0; see evaluate.py --help\n"),
        (f"{EVALUATE} --batch_size 0", "--batch_size must be at least 1"),
        (f"{EVALUATE} --seed -1", "--seed must be at least 0"),
        (f"{EVALUATE} --radii 0.5,x", "--radii must be numbers or fractions separated by commas, got '0.5,x'"),
        (f"{EVALUATE} --radii 1/0", "--radii must be numbers or fractions separated by commas, got '1/0'"),
        (f"{EVALUATE} --radii -1", "--radii must be finite and not negative"),
        (f"{EVALUATE} --split dev", "--split: expected 'test', 'val', 'train', got dev"),
        (f"{EVALUATE} --device abacus", "error: --device abacus is not available here: use cpu\n"),
        (f"{EVALUATE} --data MNIST5k", "MNIST5k has 10 labels and images of (1, 28, 28), the checkpoint 3 and (1, 6,"),
        (f"{EVALUATE} --data MINST", "did you mean MNIST?"),
        (f"{EVALUATE} --root /nowhere", "/nowhere is not a folder"),
        (f"{EVALUATE} --output taken/inside", "--output taken/inside is not a folder"),
        (f"{EVALUATE} --bogus", "unrecognized arguments: --bogus"),
        (f"{EVALUATE} --threshold 1", "--threshold belongs to the hybrid model"),
        (f"{EVALUATE} --fallback none.ckpt", "there is no checkpoint none.ckpt"),
        (f"{EVALUATE} --fallback none.ckpt --threshold -1", "--threshold must be at least 0, got -1"),
        (
            f"{EVALUATE} --wandb",
            "was not logged to W&B: leave out --wandb, or train with --config configs/logger/wandb",
        ),
        ("evaluate", "required: ckpt_path; see evaluate.py --help"),
        ("evaluate --ckpt_path none.ckpt --output out", "error: there is no checkpoint none.ckpt: name"),
        ("evaluate --ckpt_path FOLDER --output out", "is a folder: name a checkpoint in it"),
        ("evaluate --ckpt_path mnist_l2nnn", "is in no run folder: say where to write with --output"),
        ("predict --ckpt_path nowhere.ckpt x.png", "there is no checkpoint nowhere.ckpt"),
        ("predict --ckpt_path CKPT x.png", "there is no file x.png"),
        ("predict --ckpt_path CKPT .", "holds no images"),
        ("predict --ckpt_path CKPT x.png --abstain_below -1", "--abstain_below must be at least 0, got -1.0"),
        ("predict --ckpt_path CKPT x.png --abstain_below nan", "--abstain_below: expected float, got nan"),
        ("predict --ckpt_path CKPT x.png --batch_size 0", "--batch_size must be at least 1"),
        ("predict --ckpt_path CKPT x.png --output .", "is a folder"),
        ("predict --ckpt_path CKPT", "images"),
        ("export --format onnx --ckpt_path nowhere.ckpt", "there is no checkpoint nowhere.ckpt"),
        ("export --format frob --ckpt_path x", "--format: expected 'onnx', 'safetensors', 'torch_export', got frob"),
        ("export --format onnx", "required: ckpt_path"),
        ("export --format onnx --ckpt_path CKPT --output model.pt2", "--output must end in .onnx"),
        ("export --format onnx --ckpt_path CKPT --results none.json", "none.json"),
        ("dashboard", "no W&B account is set up here: run wandb login first"),
        ("dashboard --projcet 1", "unrecognized arguments: --projcet 1: did you mean --project?"),
    ],
)
def test_bad_value_is_refused_in_one_line(
    checkpoint: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", "none")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    Path("taken").touch()
    known = {"CKPT": checkpoint, "FOLDER": str(Path(checkpoint).parent)}
    assert message in terminal.error_line(main, *[known.get(word, word) for word in command.split()])
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("damage", ["hyperparameters", "weights", "kind", "header", "image"])
def test_what_contradicts_itself_is_refused(
    checkpoint: str, images: Path, terminal: Terminal, tmp_path: Path, damage: str
) -> None:
    contents = torch.load(checkpoint, weights_only=True)
    shutil.copytree(images, tmp_path / "images")
    expected = "odd.ckpt "
    if damage == "hyperparameters":
        contents["hyper_parameters"]["network_args"] = {"dense": [7]}
    elif damage == "weights":
        contents["state_dict"].pop(next(iter(contents["state_dict"])))
    elif damage == "kind":
        contents["l2nnn_lightning"]["classifier"] = "Oracle"
    elif damage == "header":
        contents["l2nnn_lightning"] = 7
    else:
        broken = ImageFolderDataModule(root=str(tmp_path / "images"), channels=1)._files[2].paths[3]
        broken.write_bytes(broken.read_bytes()[:40])
        expected = f"{broken} cannot be read as an image"
    torch.save(contents, tmp_path / "odd.ckpt")
    args = ["--ckpt_path", tmp_path / "odd.ckpt", "--root", tmp_path / "images", "--output", tmp_path / "out"]
    assert expected in terminal.error_line(main, "evaluate", *map(str, args))
    assert not (tmp_path / "out").exists()

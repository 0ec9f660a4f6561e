"""train.py as users of several GPUs and machines start it: Lightning's own launcher, two nodes.

A process takes ten seconds to start, so there are two launches, and every test looks at what they left.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from made_up_images import write_config
from meeting_place import meeting_place

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.__main__ import train
from l2nnn_lightning.training.checkpoints import Checkpoint

pytestmark = [
    pytest.mark.slow,
    # Lightning 2.6 calls jsonargparse by names that it has deprecated since.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]
WORKER = str(Path(__file__).with_name("worker.py"))


class Done(NamedTuple):
    codes: list[int]
    errors: list[str]


def launch(folder: Path, *commands: tuple[list[str], dict[str, str]]) -> Done:
    """Run commands, each with environment variables of its own, side by side to their ends."""
    inherited = {key: value for key, value in os.environ.items() if key != "L2NNN_RUN_DIR"}
    inherited |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options: dict[str, Any] = {"cwd": folder, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with meeting_place() as place:
        processes = [
            subprocess.Popen([sys.executable, WORKER, *args], env={**inherited, **place, **variables}, **options)
            for args, variables in commands
        ]
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    return Done([process.returncode for process in processes], outputs)


def of_node(node: int) -> dict[str, str]:
    """What torchrun tells the one process that it starts on one of two nodes."""
    variables = {"TORCHELASTIC_RUN_ID": "two nodes", "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1, "LOCAL_RANK": 0}
    return {key: str(value) for key, value in {**variables, "RANK": node, "GROUP_RANK": node}.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder with a config of four epochs of four steps, of two processes with 5 images each."""
    folder = tmp_path_factory.mktemp("launched")
    write_config(folder / "a.yaml", images, data__batch_size=5, data__label_noise=0.2)
    return folder


@pytest.fixture(scope="module")
def killed(folder: Path) -> Done:
    """Lightning starts the second process, which dies in the second epoch."""
    options = ["--config=a.yaml", "--run_dir=torn", "--trainer.devices=2", "--trainer.strategy=ddp"]
    return launch(folder, (options, {"DIE": "1:6"}))


@pytest.fixture(scope="module")
def two_nodes(folder: Path, killed: Done) -> Done:
    """Two nodes take up what was left, and then train something new."""
    # What they start from must have been found whole before they change it.
    assert Checkpoint.read(folder / "torn/checkpoints/last.ckpt").contents["global_step"] == 4
    nodes = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    resume = ["--ckpt_path=torn/checkpoints/last.ckpt", *nodes]
    fresh = ["--config=a.yaml", "--trainer.max_epochs=2", *nodes]
    return launch(folder, *(([*resume, "--", *fresh], of_node(node)) for node in (0, 1)))


def test_death_of_a_process_ends_the_run_with_a_clear_error(folder: Path, killed: Done) -> None:
    assert killed.codes[0] not in (0, 2)
    lines = killed.errors[0].splitlines()
    told = [line for line in lines if line.startswith("error: ")]
    assert told == [
        "error: process 0 lost contact with another one, which was killed or failed; "
        "resume with --ckpt_path torn/checkpoints/last.ckpt"
    ], killed.errors[0]
    assert "Traceback" not in killed.errors[0]


def test_two_nodes_take_up_what_a_death_left(folder: Path, two_nodes: Done) -> None:
    """To the end that one process reaches by itself, up to the order of sums."""
    assert two_nodes.codes == [0, 0], "\n".join(two_nodes.errors)
    config = yaml.safe_load((folder / "a.yaml").read_text())
    config["data"]["init_args"]["batch_size"] = 10
    (folder / "one.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(["--config", "one.yaml", "--run_dir", "one"]) == 0
    torn, one = (torch.load(folder / run / "checkpoints/last.ckpt", weights_only=True) for run in ("torn", "one"))
    assert torn["global_step"] == one["global_step"] == 16
    for key, expected in one["state_dict"].items():
        torch.testing.assert_close(torn["state_dict"][key], expected, rtol=5e-3, atol=1e-4, msg=key)
    assert L2NNNClassifier.load_from_checkpoint(folder / "torn/checkpoints/best.ckpt").is_hard
    rows = {run: list(csv.DictReader((folder / run / "metrics.csv").open())) for run in ("torn", "one")}
    assert [row["epoch"] for row in rows["torn"]] == list("00112233")  # by one writer
    # Rounding may carry one of the 8 validation images over the threshold.
    found, expected = ([float(row["val/certified_0_5"] or 0) for row in rows[run]] for run in ("torn", "one"))
    assert found == pytest.approx(expected, abs=0.126)
    assert max(expected) > 0.2


def test_nodes_share_one_new_run_folder(folder: Path, two_nodes: Done) -> None:
    """Each looks for a free name by itself, one perhaps when the other has taken it already."""
    assert two_nodes.codes == [0, 0], "\n".join(two_nodes.errors)
    assert [path.name for path in (folder / "runs/a").iterdir()] == ["version_0"]
    assert (folder / "runs/a/version_0/checkpoints/last.ckpt").is_file()
    said = [line for output in two_nodes.errors for line in output.splitlines() if line.startswith("run folder: ")]
    assert [Path(line).name for line in said] == ["torn", "version_0"]
    assert not any(word in output for output in two_nodes.errors for word in ("sync_dist", "Traceback"))

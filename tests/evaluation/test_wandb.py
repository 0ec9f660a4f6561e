"""A run that is logged to W&B without an account: what the real client writes, across training, resume, evaluation."""

import io
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb_files
import yaml
from made_up_images import write_config
from PIL import Image
from terminal import Terminal

import l2nnn_lightning.__main__ as cli
from l2nnn_lightning.data import build_datamodule
from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.tracking.runs import has_account

pytestmark = [
    # Lightning 2.6 calls jsonargparse and W&B by names that these have deprecated since.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a wandb run already in progress"),
]

CONFIGS = Path(__file__).parents[2] / "configs"
LOGGER = str(CONFIGS / "logger" / "wandb.yaml")


@pytest.fixture(scope="module", autouse=True)
def _no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import wandb

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
            patch.setenv(f"WANDB_{name}", str(home))
        patch.setenv("NETRC", str(home / "netrc"))
        patch.setenv("WANDB_SILENT", "true")
        patch.setattr(sys, "argv", ["train.py"])
        patch.chdir(home)
        yield
        wandb.teardown()  # its service must not live on into tests that fork
    # Lightning sets it for offline runs.
    os.environ.pop("WANDB_MODE", None)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, images: Path, _no_account: None) -> Path:
    """A run of four epochs, hard after two, resumed for two more, and evaluated under attack."""
    folder = tmp_path_factory.mktemp("tracked")
    config = write_config(folder / "tiny.yaml", images)
    run = folder / "run"
    assert cli.train(["--config", config, "--config", LOGGER, "--run_dir", str(run)]) == 0
    last = str(run / "checkpoints" / "last.ckpt")
    assert cli.train(["--ckpt_path", last, "--trainer.max_epochs=6"]) == 0
    assert cli.evaluate(["--ckpt_path", last, "--attacks=cw", "--max_iter=20", "--eps=0.5", "--wandb"]) == 0
    return run


@pytest.fixture(scope="module")
def records(tracked: Path) -> list[Any]:
    return wandb_files.read_records(tracked)


def epochs(records: list[Any], name: str) -> list[tuple[int, float]]:
    return [(row["epoch"], row[name]) for row in wandb_files.history(records) if name in row]


def test_resume_and_evaluation_go_on_with_the_same_run(tracked: Path, records: list[Any]) -> None:
    kept = json.loads((tracked / "wandb.json").read_text())
    started = wandb_files.runs(records)
    assert len(started) == 3
    assert {run.run_id for run in started} == {kept["id"]}
    assert {run.project for run in started} == {kept["project"]} == {"l2nnn"}
    assert {run.display_name for run in started} == {kept["name"]}


def test_every_epoch_is_logged_once(records: list[Any]) -> None:
    names = ["train/accuracy", "train/gap_mean", "train/learning_rate", "train/hard", "learning_rate/0"]
    names += [f"val/{name}" for name in ("accuracy", "gap_mean", "radius_mean", "hard", "certified_0_5", "certified_1")]
    for name in names:
        assert [epoch for epoch, _ in epochs(records, name)] == list(range(6)), name
    assert [value for _, value in epochs(records, "val/hard")] == [0, 0, 1, 1, 1, 1]
    assert [value for _, value in epochs(records, "train/hard")] == [0, 0, 1, 1, 1, 1]
    assert [epoch for epoch, _ in epochs(records, "train/penalty")] == [0, 1]  # there is none after the switch


def test_learning_rate_of_every_group_is_logged(records: list[Any]) -> None:
    rates = [dict(epochs(records, f"learning_rate/{group}"))[0] for group in range(3)]
    # 16 / sqrt(inputs): 36 pixels, 12 units after the two-sided ReLU; then what has no nonexpansive weight.
    assert rates[0] / rates[2] == pytest.approx(16 / math.sqrt(36))
    assert rates[1] / rates[2] == pytest.approx(16 / math.sqrt(12))


def panels(tracked: Path, records: list[Any], name: str) -> list[dict[str, Any]]:
    """What W&B stored under a name, in order, as (path, contents)."""
    found = []
    files = {path.name: path for path in tracked.glob("wandb/offline-run-*/files/media/**/*") if path.is_file()}
    for row in wandb_files.history(records):
        if f"{name}/path" in row:
            path = files[Path(row[f"{name}/path"]).name]
            found.append(json.loads(path.read_text()) if path.suffix == ".json" else {"png": path.read_bytes()})
    return found


def test_path_through_the_plane_has_every_epoch_of_both_stages(tracked: Path, records: list[Any]) -> None:
    drawn = panels(tracked, records, "gap_against_accuracy_points_table")
    assert len(drawn) == 2  # at the end of each part
    assert drawn[-1]["columns"] == ["epoch", "stage", "hard", "accuracy", "gap_mean"]
    for stage in ("train", "val"):
        rows = [row for row in drawn[-1]["data"] if row[1] == stage]
        assert [(row[0], row[2]) for row in rows] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)]
        for column, name in ((3, "accuracy"), (4, "gap_mean")):
            logged = [value for _, value in epochs(records, f"{stage}/{name}")]
            assert [row[column] for row in rows] == pytest.approx(logged)
    pictures = panels(tracked, records, "gap_against_accuracy")
    assert [picture["png"][:4] for picture in pictures] == [b"\x89PNG"] * 2
    assert pictures[0] != pictures[1]


def test_certified_curve_of_validation_falls(tracked: Path, records: list[Any]) -> None:
    curve = panels(tracked, records, "certified_curve_table")[-1]["data"]
    assert [radius for radius, _ in curve] == [0.5, 1.0, 1.58]
    assert [share for _, share in curve] == [
        epochs(records, f"val/certified_{name}")[-1][1] for name in ("0_5", "1", "1_58")
    ]


def test_evaluation_is_in_the_summary(tracked: Path, records: list[Any]) -> None:
    results = json.loads((tracked / "evaluation" / "results.json").read_text())
    summary = wandb_files.summary(records)
    for name in ("accuracy", "gap_mean", "radius_mean", "n", "dataset", "hard"):
        assert summary[f"evaluation/{name}"] == pytest.approx(results[name]), name
    assert summary["evaluation/certified_1_58"] == results["certified"]["1.58"]
    assert summary["evaluation/robust_cw"] == results["attacks"][0]["accuracy"]


def test_whole_certified_curve_of_the_evaluation_is_drawn(tracked: Path, records: list[Any]) -> None:
    found = Records.from_csv(tracked / "evaluation" / "records.csv")
    (curve,) = panels(tracked, records, "evaluation/certified_curve_table")
    assert curve["data"][-1][1] == 0
    for radius, share in curve["data"][::20]:
        proven = found.correct & (found.radius > 0) & (found.radius >= radius)
        assert share == pytest.approx(proven.mean())


def evaluated_images(tracked: Path) -> np.ndarray:
    """The evaluated images as bytes (N, H, W), from their files."""
    described = torch.load(tracked / "checkpoints" / "last.ckpt", weights_only=True)["l2nnn_lightning"]["data"]
    data = build_datamodule(described["name"], described["init_args"])
    data.setup("test")
    return data.test_set.images[:, 0].numpy()


@pytest.mark.parametrize(("name", "sign"), [("largest_gaps", -1), ("smallest_gaps", 1)])
def test_tables_show_the_extreme_images_and_what_the_attack_made_of_them(
    tracked: Path, records: list[Any], name: str, sign: int
) -> None:
    rows, pictures = wandb_files.table_with_media(records, f"evaluation/{name}")
    found = Records.from_csv(tracked / "evaluation" / "records.csv")
    gaps = [row["gap"] for row in rows]
    assert gaps == pytest.approx(sorted(found.gap.tolist(), key=lambda gap: sign * gap)[: len(gaps)])
    assert len(rows) == min(found.n, 25)
    attack = found.attacks["cw"]
    for row in rows:
        at = found.index.tolist().index(row["index"])
        assert row["cw broken"] == bool(attack.broken[at])
        assert row["label"] == ["left", "middle", "right"][found.label[at]]
        for column in ("image", "cw image"):
            shown = Image.open(io.BytesIO(pictures[row[column]["path"]]))
            assert shown.size == (6, 6)
            if column == "image":
                assert np.array_equal(np.asarray(shown.convert("L")), evaluated_images(tracked)[at])


def test_config_can_start_another_run(tracked: Path, tmp_path: Path) -> None:
    """It must not carry the id of this one."""
    options = yaml.safe_load((tracked / "config.yaml").read_text())["trainer"]["callbacks"][-1]["init_args"]
    assert options == {"project": None, "name": None, "offline": False, "every_n_epochs": 10}
    other = tmp_path / "other"
    arguments = ["--config", str(tracked / "config.yaml"), "--run_dir", str(other), "--trainer.max_epochs=1"]
    assert cli.train(arguments) == 0
    ids = [json.loads((run / "wandb.json").read_text())["id"] for run in (tracked, other)]
    assert ids[0] != ids[1]
    assert [run.run_id for run in wandb_files.runs(wandb_files.read_records(other))] == [ids[1]]


def test_run_of_a_sweep_is_the_one_that_its_agent_names(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    """The agent of a sweep gives parameters as arguments and the run's id in the environment."""
    sweep = yaml.safe_load((CONFIGS / "sweep.yaml").read_text())
    assert sweep["command"][-2] == "--config=configs/logger/wandb.yaml"
    assert (CONFIGS.parent / sweep["command"][-3].removeprefix("--config=")).is_file()
    assert sweep["metric"]["name"] == "val/radius_mean"
    arguments = []
    for name, how in sweep["parameters"].items():
        value = how.get("value", how.get("min", (how.get("values") or [None])[0]))
        arguments.append(f"--{name}={value}")
    assert {name.rsplit(".", 1)[1] for name in sweep["parameters"]} >= {"omega", "v", "penalty_weight"}
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_RUN_ID", "sweeprun")
    config = write_config(tmp_path / "a.yaml", images, trainer__max_epochs=1)
    options = ["--run_dir", str(tmp_path / "run"), *arguments]
    assert cli.train(["--config", config, "--config", LOGGER, *options]) == 0
    records = wandb_files.read_records(tmp_path / "run")
    assert [run.run_id for run in wandb_files.runs(records)] == ["sweeprun"]
    logged = wandb_files.config(records)
    objective = logged["objective"]["init_args"]
    assert [objective["omega"], objective["v"], logged["penalty_weight"]] == [0.1, 0.5, 0.1]
    assert objective["train_v"] is False
    assert "val/radius_mean" in wandb_files.summary(records)
    assert "no W&B account is set up here: the run is kept offline" in terminal.read()[1]


def test_refusal_by_wandb_is_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    """Its client reads a key once a process, so the error is put where a wrong key raises it."""
    import wandb

    def refuse(*_: Any, **__: Any) -> Any:
        raise wandb.errors.AuthenticationError("WANDB_API_KEY invalid:\nAPI key must have 40+ characters, has 5.")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setenv("WANDB_API_KEY", "short")
    config = write_config(tmp_path / "a.yaml", images)
    line = terminal.error_line(cli.train, "--config", config, "--config", LOGGER, "--run_dir", str(tmp_path / "run"))
    assert line.startswith("error: W&B: WANDB_API_KEY invalid: API key must have 40+ characters, has 5.; ")
    assert "set WANDB_MODE=offline" in line


def test_account_is_found_where_wandb_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert not has_account()
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    netrc.write_text("machine elsewhere.org login user password made-up\n")
    assert not has_account()
    netrc.write_text("machine api.wandb.ai login user password made-up\n")
    assert has_account()
    netrc.write_text("machine\n")
    assert not has_account()
    monkeypatch.setenv("WANDB_API_KEY", "made-up")
    assert has_account()


def test_gap_is_shown_against_accuracy_across_runs(tmp_path: Path) -> None:
    assert (
        cli.main(["dashboard", "--project", "mine", "--entity", "us", "--json", str(tmp_path / "deep" / "a.json")]) == 0
    )
    described: dict[str, Any] = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert (described["project"], described["entity"]) == ("mine", "us")
    assert described["displayName"] == "Gap against accuracy"
    sections = {s["name"]: s["panels"] for s in described["spec"]["section"]["panelBankConfig"]["sections"]}
    across = [panel["config"] for panel in sections["Gap against accuracy"] if panel["viewType"] == "Scatter Plot"]
    axes = {(config["xAxis"], config["yAxis"]) for config in across}
    for stage in ("train", "val", "evaluation"):
        assert (f"summary:{stage}/accuracy", f"summary:{stage}/gap_mean") in axes
    assert {config["zAxis"] for config in across if "zAxis" in config} == {
        "config:objective.value.init_args.omega",
        "config:objective.value.init_args.v",
        "config:penalty_weight.value",
    }
    plotted = {metric for panel in sections["Training"] for metric in panel["config"].get("metrics", [])}
    assert {"val/accuracy", "val/gap_mean", "val/radius_mean", "train/penalty", "val/hard"} <= plotted

"""The commands' own doing: bad input in one line, the demo."""

from pathlib import Path

import pytest
from commands import benchmark, demo, study
from made_up_study import write_study
from terminal import Terminal

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.configs import DEFAULT_CONFIG


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--networks", "none"], "unknown network 'none'"),
        (["frob"], "unknown part 'frob'"),
        (["step", "--repeats", "1"], "--repeats must be at least 2"),
        (["step", "--threads", "0"], "--threads must be a whole number above 0"),
        (["step", "--networks", "mlp", "--bounds", "frob"], "--bounds: bound must be one of gram,"),
        (["step", "--image_shape", "3,32"], "--image_shape must be channels,height,width"),
        (["step", "--device", "warp"], "--device warp is not available here"),
        (["data", "--epoch_size", "1"], "--epoch_size must be at least --batch_size"),
        (["memory", "--memory_images", "0"], "--memory_images must be a whole number above 0"),
        (["evaluation", "--processes", "1"], "--processes must be at least 2"),
        (["step", "--batch_size", "many"], "--help"),
        (["step", "--batchsize", "1"], "did you mean --batch_size?"),
        (["attacks"], "the part attacks needs --attack_checkpoints"),
        (["--attack_eps", "inf"], "--attack_eps must be finite"),
    ],
)
def test_bad_input_of_the_benchmark_is_one_line(args: list[str], message: str, terminal: Terminal) -> None:
    assert message in terminal.error_line(benchmark, *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["table7"], "there is no study 'table7': choose one of table0"),
        (["table0", "--tier", "tpu"], "has no tier 'tpu': it has cpu, gpu"),
        (["table0", "--only", "nothing"], "no run 'nothing'"),
        (["table0", "--jobs", "0"], "--jobs must be a whole number above 0"),
        (["table0", "--speed", "9"], "unrecognized arguments: --speed"),
        ([], "name a study: table0"),
    ],
)
def test_bad_input_of_a_study_is_one_line(tmp_path: Path, terminal: Terminal, args: list[str], message: str) -> None:
    folder = write_study(tmp_path, tmp_path)
    assert message in terminal.error_line(study, *args, "--configs", str(folder))


@pytest.mark.parametrize(("args", "fails"), [([], False), ([], True), (["--fast"], False)])
def test_demo_trains_and_then_evaluates_the_best(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, args: list[str], fails: bool
) -> None:
    calls: list[tuple[str, list[str]]] = []

    def train(args: list[str]) -> None:
        calls.append(("train", args))
        if fails:
            raise UserError("it cannot")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("L2NNN_RUN_DIR", "")
    monkeypatch.setattr("l2nnn_lightning.training.command.run_training", train)
    monkeypatch.setattr(
        "l2nnn_lightning.evaluation.command.run_evaluation", lambda args: calls.append(("evaluate", args))
    )
    assert demo(args) == (2 if fails else 0)
    folder = Path("runs/demo/version_0")
    shorter = ["--trainer.max_epochs", "1"] if args else []
    expected = [("train", ["--config", DEFAULT_CONFIG, "--run_dir", str(folder), *shorter])]
    if not fails:
        expected.append(("evaluate", ["--ckpt_path", str(folder / "checkpoints" / "best.ckpt")]))
    assert calls == expected

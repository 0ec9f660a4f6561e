"""What can be said of the command line of ``train.py`` before anything heavy is imported."""

import contextlib
import difflib
import re
import sys
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from l2nnn_lightning.training.configs import DEFAULT_CONFIG, find_config

__all__ = ["MOVED", "check_arguments", "configs_first", "option_values", "program", "with_plain_values"]


def program(command: str) -> str:
    """Name a command as the user of this process types it: ``l2nnn train``, ``train.py``.

    Example:
        >>> program("predict").endswith("predict")
        True
    """
    own = Path(sys.argv[0])
    if own.name == "l2nnn":
        return f"l2nnn {command}"
    has_script = command in ("train", "evaluate") and own.parts[-2:] != ("l2nnn_lightning", "__main__.py")
    return f"{command}.py" if has_script else f"python -m l2nnn_lightning {command}"


HELP = f"""usage: l2nnn train [fit] [--config FILE ...] [options]        or: python train.py ...

Train a classifier; without arguments {DEFAULT_CONFIG}. The run folder holds config.yaml, metrics.csv,
checkpoints/last.ckpt (every epoch) and checkpoints/best.ckpt.

  --config FILE             a config, or the name of one that comes with the package, such as mnist_quick or
                            overlays/mnist5k; of several, later ones win
  --run_dir DIR             the run folder (default: runs/NAME/version_N)
  --ckpt_path FILE          resume from this checkpoint, with the config of its own run; only how long and where it
                            trains may change (--trainer.max_epochs, devices, logger, --data.root), what it learns
                            from what only with another --run_dir
  --best_metric NAME        what best.ckpt is best in (default: certified accuracy at the smallest of model.radii,
                            ties by accuracy; accuracy alone where nothing is proved)
  --compile true|BACKEND    compile the network
  --seed_everything N       the seed (default: 0)
  --print_config            print the config that would be used, all defaults included, and stop

  a class ...               its options ...                          one of them ...
  --model.network CLASS     --model.network.help ConvL2NNN           --model.network.channels [8,32]
  --model.objective CLASS   --model.objective.help PaperLoss         --model.objective.omega 0.5
  --model.optimizer CLASS   --model.optimizer.help ScaledAdam        --model.optimizer.lr 1e-3
  --model.scheduler CLASS   --model.scheduler.help CosineAfterSwitch --model.scheduler.warmup_steps 50
  --model CLASS             --model.help L2NNNClassifier             --model.penalty_weight 0.1
  --data CLASS or MNIST     --data.help MNISTDataModule              --data.attack.eps 8/255
                            l2nnn train fit --help                   --trainer.max_epochs 10

A class of your own is named by its path, my_package.MyNetwork. Evaluate a run with:
l2nnn evaluate --ckpt_path RUN/checkpoints/last.ckpt
"""

_KNOWN = sorted(set(re.findall(r"--\w+", HELP)))
#: Where the flat arguments of version 0.1.0 are now, below ``model``.
MOVED: Mapping[str, str] = {
    **{name: f"objective.{name}" for name in ("gamma", "omega", "omega_late", "late", "z", "u", "v", "train_v")},
    **{name: f"objective.{name}" for name in ("adversarial_terms", "offset", "temperature", "margin")},
    "margin_in_box": "objective.in_box",
    "schedule": "scheduler.shape",
    "warmup_steps": "scheduler.warmup_steps",
    "final_lr": "scheduler.final",
    "network_args": "network",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "scale_lr": "optimizer (ScaledAdam scales, torch.optim.Adam does not)",
    "certificate": "network.certificate",
    "init": "network.init",
    "start_hard": "network.hard",
}


def check_arguments(args: Sequence[str]) -> None:
    """Answer ``--help``, and refuse a mistyped option, one that has moved, or a config that is not there.

    Raises:
        ArgumentError: in one line, with the option that is meant.
        SystemExit: once help has been given.
    """
    if args and not args[0].startswith("-") and args[0] != "fit":
        ours, other = program("train"), program("evaluate")
        said = f"{ours} has no command {args[0]!r}: use 'fit', or nothing; evaluate with {other}"
        raise ArgumentError(None, said)
    if args in (["--help"], ["-h"]):
        print(HELP, end="")
        sys.exit(0)
    for arg in (arg for arg in args if arg.startswith("--")):
        name = arg.partition("=")[0]
        head, _, rest = name.partition(".")
        if head.rstrip("+") not in _KNOWN:
            moved = [f"--model.{MOVED[head[2:]]}"] if head[2:] in MOVED else []
            nearest = moved or difflib.get_close_matches(head, _KNOWN, 1)
            see = f"; see {program('train')} --help"
            meant = f": did you mean {nearest[0]}{name[len(head) :]}?" if nearest else see
            raise ArgumentError(None, f"there is no option {name}{meant}")
        old, _, more = rest.removeprefix("init_args.").partition(".")
        if head == "--model" and old in MOVED:
            raise ArgumentError(None, f"{name} has moved: use --model.{MOVED[old]}{'.' + more if more else ''}")
    for config in option_values(args, "--config", "-c"):
        find_config(config)


def with_plain_values(args: Sequence[str], classes: Mapping[str, str]) -> list[str]:
    """Write what a user may shorten as the parser wants it: radii without brackets, a data set by its short name.

    Args:
        args: the command line.
        classes: short names of data sets, with their classes.

    Example:
        >>> with_plain_values(["--model.radii", "0.5,36/144", "--data=MNIST"], {"MNIST": "MNISTDataModule"})
        ['--model.radii', '[0.5, 0.25]', '--data=MNISTDataModule']
    """
    full: list[str] = []
    for before, arg in zip(["", *args], args, strict=False):
        name, equals, value = arg.partition("=")
        if not equals:
            name, value = before, arg
        if name in ("--data", "--data.class_path", "--data.help"):
            value = classes.get(value, value)
        elif name in ("--model.radii", "--model.init_args.radii"):
            with contextlib.suppress(ValueError, ZeroDivisionError, OverflowError):  # the parser says what is wrong
                value = str([float(Fraction(part)) for part in value.strip(" []").split(",")])
        full.append(f"{name}={value}" if equals else value)
    return full


def configs_first(args: Sequence[str]) -> list[str]:
    """Put the configs before everything that changes them, wherever they stand, in their order, by their files.

    Example:
        >>> configs_first(["--data.root", "x", "--config", "mnist5k"])[1:]
        ['--data.root', 'x']
    """
    configs, others, is_value = [], [], False
    for arg in args:
        name, equals, value = arg.partition("=")
        if is_value or (equals and name in ("--config", "-c")):
            configs.append(f"--config={find_config(arg if is_value else value)}")
        elif arg not in ("--config", "-c"):
            others.append(arg)
        is_value = not is_value and arg in ("--config", "-c")
    return [*configs, *others, *(["--config"] if is_value else [])]


def option_values(args: Sequence[str], *names: str) -> list[str]:
    """Look up an option's values before the real parser is built: ``--name VALUE`` or ``--name=VALUE``."""
    values = []
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names and (equals or i + 1 < len(args)):
            values.append(value if equals else args[i + 1])
    return values

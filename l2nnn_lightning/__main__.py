"""``python -m l2nnn_lightning COMMAND``: export and predict."""

import sys
from collections.abc import Sequence

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.command_line import main as run_command

__all__ = ["main"]

_USAGE = """usage: python -m l2nnn_lightning COMMAND [options]

commands:
  export    write a checkpoint as ONNX, torch.export or safetensors, with its certificate
  predict   label, confidence gap and certified radius of image files

elsewhere:
  python train.py --help                        train
  python evaluate.py --help                     certify, attack, report
  python -m l2nnn_lightning.study --help        the paper's tables and figures
  python -m l2nnn_lightning.benchmark --help    what things cost
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    return run_command(_dispatch, args)


def _dispatch(args: Sequence[str]) -> None:
    command = args[0] if args else None
    if command in ("-h", "--help"):
        print(_USAGE, end="")
    elif command == "export":
        from l2nnn_lightning.evaluation.export import run_export

        run_export(args[1:])
    elif command == "predict":
        from l2nnn_lightning.evaluation.predict import run_predict

        run_predict(args[1:])
    else:
        given = "name a command" if command is None else f"unknown command {command!r}"
        raise UserError(
            f"{given}: export or predict (train with train.py, evaluate with evaluate.py, "
            "or python -m l2nnn_lightning.study, .benchmark)"
        )


if __name__ == "__main__":
    sys.exit(main())

"""What can be told before the first step of a training that would show itself only after the last."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import StochasticWeightAveraging

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.arguments import option_values
from l2nnn_lightning.training.callbacks import HardScalingSwitch
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["check_trainer", "notes", "why_soft"]


def check_trainer(precision: Any, callbacks: Sequence[Callback]) -> None:
    """Refuse what cannot train these networks.

    Raises:
        UserError: in one line.
    """
    if str(precision) == "16-true":
        raise UserError(
            "--trainer.precision 16-true trains nothing of use: float16 weights lose what an optimizer adds to them; "
            "use bf16-mixed, 16-mixed or 32-true"
        )
    if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        raise UserError(
            "StochasticWeightAveraging puts a schedule of its own in the place of model.scheduler, which is stepped "
            "once a batch: use EMAWeightAveraging or WeightAveraging of pytorch_lightning.callbacks"
        )


def notes(
    model: Classifier,
    callbacks: Sequence[Callback],
    max_epochs: int | None,
    args: Sequence[str],
    config: Mapping[str, Any],
) -> Iterator[str]:
    """Say what a user may not have meant, a line each.

    Args:
        model: what is trained.
        callbacks: of the trainer.
        max_epochs: how long.
        args: the command line.
        config: the options of the objective, as they are used.
    """
    if model.is_soft and model.network.can_prove and (why := why_soft(callbacks, max_epochs)) is not None:
        yield f"note: the network begins in penalty mode and will prove nothing: {why}"
    given = {
        name: option_values(args, f"--model.objective.{name}", f"--model.init_args.objective.init_args.{name}")
        for name in ("omega", "omega_late", "late")
    }
    late = config.get("omega_late")
    if given["omega"] and late is not None and not given["omega_late"] and not given["late"]:
        share = 1 - float(config.get("late", 0.7))
        if share > 0:
            yield (
                f"note: in the last {share:.0%} of the epochs omega is {late:g}, as omega_late says: "
                "give --model.objective.omega_late too, or null"
            )


def why_soft(callbacks: Sequence[Callback], max_epochs: int | None) -> str | None:
    """Say why a network that begins in penalty mode stays there, and what to do; None if it becomes hard."""
    switches = [callback for callback in callbacks if isinstance(callback, HardScalingSwitch)]
    if not switches:
        return "add the callback HardScalingSwitch, or begin with --model.network.hard true"
    if any(switch.comes_within(max_epochs) for switch in switches):
        return None
    at = min(switch.switch_epoch or 0 for switch in switches)
    return f"HardScalingSwitch comes after epoch {at}, the training ends after {max_epochs}; lower its switch_epoch"

"""What may change when a training is resumed: how it runs and how long, but not what it is."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from l2nnn_lightning.data.errors import UserError

__all__ = ["check_changes", "settings_changed"]

# What may change of each part of a config, since it leaves alone what is learnt from what.
_FREE = {"data.root", "data.eval_batch_size", "model.radii"}
# What may not change of the trainer, of which the rest says how long, where and how it runs.
_TRAINER = {f"trainer.{name}" for name in ("gradient_clip_val", "gradient_clip_algorithm")}
_TRAINER |= {f"trainer.{name}" for name in ("limit_train_batches", "overfit_batches")}
# The callbacks that take part in the training; others watch it, or end it.
_CALLBACKS = {"HardScalingSwitch", "ParsevalRetraction", "GradientAccumulationScheduler"}
_CALLBACKS |= {"WeightAveraging", "EMAWeightAveraging", "StochasticWeightAveraging"}
# With these a batch per process may change, for the global batch to stay the same.
_PROCESSES = {f"trainer.{name}" for name in ("devices", "num_nodes", "strategy", "accumulate_grad_batches")}


def settings_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Find the settings in which two configs would train differently: old and new value, by the option's name.

    Args:
        old: the config of a run, as plain values with all defaults.
        new: another one.

    Example:
        >>> settings_changed({"data": {"init_args": {"root": "a"}}}, {"data": {"init_args": {"root": "b"}}})
        {}
        >>> settings_changed({"model": {"penalty_weight": 0.1}}, {"model": {"penalty_weight": 1.0}})
        {'model.penalty_weight': (0.1, 1.0)}
    """
    before, after = dict(_settings(old)), dict(_settings(new))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    is_shared = bool(_PROCESSES & set(keys)) or any(
        int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS")
    )
    free = _FREE | ({"data.batch_size"} if is_shared else set())
    changed = [
        key
        for key in keys
        if key not in free
        and (not key.startswith("trainer.") or key in _TRAINER or key.startswith("trainer.callbacks"))
    ]
    return {key: (before.get(key), after.get(key)) for key in changed}


def check_changes(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path, *, is_own: bool) -> None:
    """Refuse to resume a run with settings that would make it another one.

    Args:
        old: the config of the run, as plain values with all defaults.
        new: what it is to be resumed with.
        folder: the run's folder.
        is_own: whether it is to go on there. Elsewhere everything may change but the optimizer and its schedule, which
            go on as the checkpoint holds them.

    Raises:
        UserError: naming an option, its two values, and what to do.
    """
    changed = settings_changed(old, new)
    if not is_own:
        changed = {key: both for key, both in changed.items() if key.startswith(("model.optimizer", "model.scheduler"))}
    if not changed:
        return
    key, (was, now) = next(iter(changed.items()))
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    todo = ", or train on with it in a folder of its own, --run_dir"
    why = f"{key} was {_text(was)} in the run {folder}, now it is {_text(now)}{more}"
    if any(name.startswith(("model.optimizer", "model.scheduler")) for name in changed):
        todo, why = "", f"{why}, and a resumed optimizer goes on as its checkpoint holds it"
    raise UserError(f"{why}: leave it as it was{todo}")


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in ("seed_everything", "model", "data", "trainer"):
        value = config.get(part)
        if part == "trainer" and isinstance(value, Mapping):
            callbacks = value.get("callbacks") or []
            value = {name: entry for name, entry in value.items() if name != "callbacks"}
            for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
                name = callback.get("class_path", "").rpartition(".")[2]
                if name in _CALLBACKS:
                    yield f"trainer.callbacks.{name}", name
                    yield from _leaves(f"trainer.callbacks.{name}", callback.get("init_args") or {})
        yield from _leaves(part, value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Go through the settings below a name, by the names that options have on the command line."""
    if not isinstance(value, Mapping):
        if value is not None:
            yield name, value
        return
    for key, entry in value.items():
        yield from _leaves(name if key in ("class_path", "init_args") else f"{name}.{key}", entry)


def _text(value: Any) -> str:
    return "not set" if value is None else str(value)

"""The learning rate as a function of the step."""

import math

import pytest
import torch

from l2nnn_lightning.training.schedule import CosineAfterSwitch, learning_rate_factor


def factor(step: int, start: int | None, shape: str = "cosine", warmup: int = 4) -> float:
    return learning_rate_factor(
        step,
        start=start,
        total=120,
        warmup=warmup,
        final=0.1,
        shape=shape,  # type: ignore[arg-type]
    )


def test_warms_up_and_stays_constant_while_the_switch_is_not_known() -> None:
    assert [factor(step, None) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factor(119, None) == factor(500, None) == 1.0


def test_past_steps_do_not_change_when_the_switch_comes() -> None:
    assert [factor(step, 60) for step in range(60)] == [factor(step, None) for step in range(60)]


def test_warms_up_again_and_falls_along_a_cosine_after_the_switch() -> None:
    assert factor(20, 20) == pytest.approx(0.2)
    assert factor(70, 20) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    values = [factor(step, 20) for step in range(24, 121)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.1)
    assert factor(400, 20) == pytest.approx(0.1)


def test_constant_schedule_does_not_fall() -> None:
    assert [factor(step, 20, "constant") for step in (24, 60, 120, 500)] == [1.0] * 4


def test_no_warmup_and_a_switch_at_the_last_step() -> None:
    assert factor(0, None, warmup=0) == 1.0
    assert factor(119, 119, warmup=0) == 1.0
    assert 0.1 <= factor(121, 120, warmup=0) <= 1.0


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("resumed_at", [None, 3, 9])
def test_scheduler_follows_the_factor_through_switch_and_resume(soft: bool, resumed_at: int | None) -> None:
    def make(total: int) -> tuple[torch.optim.Optimizer, CosineAfterSwitch]:
        optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in (0.1, 0.2)])
        scheduler = CosineAfterSwitch(optimizer, warmup_steps=2, final=0.1)
        scheduler.begin(total, soft=soft)
        return optimizer, scheduler

    (optimizer, scheduler), start, scale = make(12), None if soft else 0, 1.0
    for step in range(12):
        if step == resumed_at:
            optimizers, state = optimizer.state_dict(), scheduler.state_dict()
            optimizer, scheduler = make(12)
            optimizer.load_state_dict(optimizers)
            scheduler.load_state_dict(state)
        if step == 6:
            scheduler.restart(0.5)
            start, scale = 6, 0.5
        expected = scale * learning_rate_factor(step, start=start, total=12, warmup=2, final=0.1)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * expected, 0.2 * expected])
        optimizer.step()
        scheduler.step()
    assert "total_steps" not in scheduler.state_dict()  # which a resumed run may change

"""The learning rate as a function of the step, through switch and resume."""

import math
from typing import Any

import pytest
import torch

from l2nnn_lightning.training.schedule import CosineAfterSwitch


def make(soft: bool, **options: Any) -> tuple[torch.optim.Optimizer, CosineAfterSwitch]:
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in (1.0, 2.0)])
    scheduler = CosineAfterSwitch(optimizer, **({"warmup_steps": 4, "final": 0.1} | options))
    scheduler.begin(120, soft=soft)
    return optimizer, scheduler


def rates(steps: int, switch: int | None, scale: float = 1.0, resumed_at: int | None = None, **options: Any) -> Any:
    """The learning rate of each step: soft until the switch, hard from the start where that is 0."""
    optimizer, scheduler = make(switch != 0, **options)
    found = []
    for step in range(steps):
        if step == resumed_at:
            states = optimizer.state_dict(), scheduler.state_dict()
            optimizer, scheduler = make(switch != 0, **options)
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
        if step == switch and switch > 0:
            scheduler.restart(scale)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == 2 * first
        found.append(first)
        optimizer.step()
        scheduler.step()
    assert "total_steps" not in scheduler.state_dict()  # which a resumed run may change
    return found


def test_warms_up_and_stays_constant_while_the_switch_is_not_known() -> None:
    assert rates(500, None) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 496)
    assert rates(3, None, warmup_steps=0) == [1.0] * 3


@pytest.mark.parametrize("switch", [0, 20])
def test_warms_up_again_and_falls_along_a_cosine_after_the_switch(switch: int) -> None:
    found = rates(400, switch, scale=0.5)
    assert found[:switch] == rates(switch, None)
    scale = 0.5 if switch else 1.0
    assert found[switch] == pytest.approx(0.2 * scale)
    middle = (switch + 120) // 2
    assert found[middle] == pytest.approx(scale * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert found[switch + 4 :] == sorted(found[switch + 4 :], reverse=True)
    assert found[120] == found[399] == pytest.approx(0.1 * scale)


def test_constant_schedule_does_not_fall() -> None:
    assert rates(500, 20, shape="constant")[24:] == [1.0] * 476


def test_a_cosine_that_does_not_wait_falls_through_penalty_mode_and_the_switch() -> None:
    assert rates(200, None, wait=False) == rates(200, 20, wait=False) == rates(200, 0)
    assert rates(200, 20, scale=0.5, wait=False)[20:] == pytest.approx([0.5 * rate for rate in rates(200, 0)[20:]])


def test_a_switch_at_the_last_step_begins_at_the_top() -> None:
    assert rates(122, 119, warmup_steps=0)[119] == 1.0
    assert rates(122, 120, warmup_steps=0)[121] == pytest.approx(0.1)


@pytest.mark.parametrize("switch", [0, 6])
@pytest.mark.parametrize("resumed_at", [3, 9])
def test_resumed_schedule_goes_on_as_it_would_have(switch: int, resumed_at: int) -> None:
    assert rates(60, switch, 0.5, resumed_at) == rates(60, switch, 0.5)

"""The learning rate as a function of the step."""

import math

import pytest

from l2nnn_lightning.training.schedules import learning_rate_factor


def factor(step: int, start: int | None, schedule: str = "cosine", warmup: int = 4) -> float:
    return learning_rate_factor(
        step,
        start=start,
        total=120,
        warmup=warmup,
        final=0.1,
        schedule=schedule,  # type: ignore[arg-type]
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

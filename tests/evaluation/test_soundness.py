import numpy as np
import pytest
import torch
from made_up_records import ATTACKS, made_up_records

from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.soundness import CertificateViolation, check_sound


def with_attack(records: Records, name: str, row: int, norm: float, prediction: int | None = None) -> Records:
    """Let one attack break one sample only, at the given norm; the others' labels are not kept if this one's is not."""
    broken, norms = torch.zeros(records.n, dtype=torch.bool), torch.full((records.n,), torch.inf)
    broken[row], norms[row] = True, float(norm)
    frame = records.frame.drop(columns=f"{name}_prediction", errors="ignore")
    columns = {f"{name}_broken": broken, f"{name}_norm": norms}
    if prediction is not None:
        columns[f"{name}_prediction"] = torch.tensor(records.prediction)
        columns[f"{name}_prediction"][row] = prediction
    return Records(frame).with_columns(columns)


def test_attacks_that_stay_outside_the_radii_pass() -> None:
    check_sound(made_up_records(200, attacked=True, box=True), ATTACKS)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_an_attack_inside_the_radius_fails_with_the_sample(fraction: float) -> None:
    records = made_up_records(50, attacked=True)
    row = int(np.flatnonzero(records.correct)[3])
    norm = fraction * records.radius[row]
    with pytest.raises(CertificateViolation) as caught:
        check_sound(with_attack(records, "cw", row, norm), ATTACKS)
    for part in (f"sample {records.index[row]} ", f"norm {norm:.6g}", f"radius {records.radius[row]:.6g}", "cw"):
        assert part in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_an_attack_at_the_radius_up_to_rounding_passes() -> None:
    records = made_up_records(50, attacked=True)
    row = int(np.flatnonzero(records.correct)[0])
    check_sound(with_attack(records, "cw", row, records.radius[row] * (1 - 1e-6)), ATTACKS)


def test_an_attack_between_both_radii_violates_the_box_radius() -> None:
    records = made_up_records(50, attacked=True, box=True)
    row = int(np.flatnonzero(records.correct)[0])
    with pytest.raises(CertificateViolation):
        check_sound(with_attack(records, "cw", row, 1.1 * records.radius[row]), ATTACKS)


def test_a_sample_wrong_from_the_start_is_no_violation_unless_its_label_changed() -> None:
    records = made_up_records(200, attacked=True)
    row = int(np.flatnonzero(~records.correct)[0])
    wrong = int(records.prediction[row])
    check_sound(with_attack(records, "cw", row, 0.0), ATTACKS)
    check_sound(with_attack(records, "cw", row, 0.0, prediction=wrong), ATTACKS)
    with pytest.raises(CertificateViolation):
        check_sound(with_attack(records, "cw", row, 0.0, prediction=(wrong + 3) % 10), ATTACKS)


def test_norms_of_another_kind_are_not_held_against_an_l2_radius() -> None:
    records = made_up_records(50, attacked=True)
    row = int(np.flatnonzero(records.correct)[0])
    check_sound(with_attack(records, "pgd_linf", row, 1e-4), ATTACKS)

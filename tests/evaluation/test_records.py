"""Records: read back exactly, refused when bad, and held against what attacks did."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_records import ATTACKS, made_up_records

from l2nnn_lightning.evaluation.measure.records import CertificateViolation, Records, check_sound


def assert_same(left: Records, right: Records) -> None:
    pd.testing.assert_frame_equal(left.frame, right.frame, check_exact=True)
    assert list(left.attacks) == list(right.attacks)


@pytest.mark.parametrize("attacked", [False, True])
def test_csv_round_trip_is_exact(tmp_path: Path, attacked: bool) -> None:
    records = made_up_records(300, attacked=attacked, box=attacked)
    # Floats of every magnitude: any positive bit pattern that is a finite float32.
    bits = np.random.default_rng(3).integers(0, 0x7F7FFFFF, 300, dtype=np.int32)
    records = records.with_columns({"gap": torch.from_numpy(bits.view(np.float32))})
    records.to_csv(tmp_path / "records.csv")
    assert_same(Records.from_csv(tmp_path / "records.csv"), records)


def test_csv_reads_as_plain_numbers(tmp_path: Path) -> None:
    records = made_up_records(5, attacked=True)
    records.to_csv(tmp_path / "records.csv")
    with (tmp_path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == records.index.tolist()
    assert {row["cw_broken"] for row in rows} == {"1"}
    assert float(rows[2]["gap"]) == pytest.approx(float(records.gap[2]))
    assert list(rows[0])[:5] == ["index", "label", "prediction", "gap", "radius"]


def test_concatenated_shards_equal_the_whole_sorted_by_index() -> None:
    records = made_up_records(50, attacked=True, box=True)
    whole = records.select(np.argsort(records.index))
    shards = [records.select(slice(rank, None, 3)) for rank in range(3)]
    empty = records.select(slice(0, 0))
    assert_same(Records.concatenate([*shards, empty]), whole)


def test_concatenating_a_sample_twice_is_refused() -> None:
    records = made_up_records(9)
    with pytest.raises(ValueError, match=f"sample {records.index[4]} is recorded more than once"):
        Records.concatenate([records.select(slice(0, 5)), records.select(slice(4, 9))])


def test_a_float64_radius_is_never_rounded_up() -> None:
    radius = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    n = torch.arange(1000)
    stored = Records.from_tensors(index=n, label=n, prediction=n, gap=radius, radius=radius).radius.astype(np.float64)
    assert (stored <= radius.numpy()).all()
    assert (stored >= radius.numpy() * (1 - 2**-23)).all()


def test_half_precision_tensors_are_taken() -> None:
    n = torch.arange(3)
    gap, radius = torch.tensor([0.5, 1, 2]).bfloat16(), torch.zeros(3).half()
    records = Records.from_tensors(index=n, label=n, prediction=n, gap=gap, radius=radius)
    assert records.gap.tolist() == [0.5, 1.0, 2.0]
    assert records.correct.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": [1, torch.nan, 1]}, "gap must be finite and >= 0, got nan at sample 11"),
        ({"radius": [1, 1, torch.inf]}, "radius must be finite and >= 0, got inf at sample 12"),
        ({"radius_box": [-1, 1, 1]}, "radius_box must be finite and >= 0, got -1.0"),
        ({"index": [1, 2, 1]}, "sample 1 is recorded more than once"),
        ({"cw_broken": [1, 1, 1], "cw_norm": [1, torch.nan, 1]}, "norms of cw"),
        ({"cw_broken": [1, 1, 1]}, "the columns cw_norm are missing"),
    ],
)
def test_bad_records_are_refused_in_one_line(change: dict[str, list[float]], message: str) -> None:
    good = {"index": [10, 11, 12], "label": [0, 1, 2], "prediction": [0, 1, 2], "gap": [1, 1, 1], "radius": [1, 1, 1]}
    with pytest.raises(ValueError, match=message) as caught:
        Records.from_tensors(**{name: torch.tensor(column) for name, column in (good | change).items()})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "index,label\n1,2\n",
        "index,label,prediction,gap,radius\n1,2,3\n",
        "index,label,prediction,gap,radius\n1,2,x,4,5\n",
        "index,label,prediction,gap,radius,cw_broken\n1,2,3,4,5,1\n",
    ],
)
def test_reading_another_file_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.csv is not a table of records"):
        Records.from_csv(path)


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

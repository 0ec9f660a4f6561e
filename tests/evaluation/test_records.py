import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_records import made_up_records

from l2nnn_lightning.evaluation.measure.records import AttackRecords, Records


def assert_same(left: Records, right: Records) -> None:
    for name in ("index", "label", "prediction", "gap", "radius"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)
    assert (left.radius_box is None) == (right.radius_box is None)
    if left.radius_box is not None and right.radius_box is not None:
        np.testing.assert_array_equal(left.radius_box, right.radius_box, strict=True)
    assert list(left.attacks) == list(right.attacks)
    for name, attack in left.attacks.items():
        other = right.attacks[name]
        np.testing.assert_array_equal(attack.broken, other.broken, strict=True)
        np.testing.assert_array_equal(attack.norm, other.norm, strict=True)
        assert (attack.prediction is None) == (other.prediction is None)
        if attack.prediction is not None and other.prediction is not None:
            np.testing.assert_array_equal(attack.prediction, other.prediction, strict=True)


@pytest.mark.parametrize("attacked", [False, True])
def test_csv_round_trip_is_exact(tmp_path: Path, attacked: bool) -> None:
    records = made_up_records(300, attacked=attacked, box=attacked)
    # Floats of every magnitude: any positive bit pattern that is a finite float32.
    bits = np.random.default_rng(3).integers(0, 0x7F7FFFFF, 300, dtype=np.int32)
    records = replace(records, gap=bits.view(np.float32))
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


def test_concatenating_different_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="same columns"):
        Records.concatenate([made_up_records(4), made_up_records(4, box=True)])
    with pytest.raises(ValueError, match="no records"):
        Records.concatenate([])


def test_a_float64_radius_is_never_rounded_up() -> None:
    radius = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    n = torch.arange(1000)
    stored = Records.from_tensors(n, n, n, radius, radius).radius.astype(np.float64)
    assert (stored <= radius.numpy()).all()
    assert (stored >= radius.numpy() * (1 - 2**-23)).all()


def test_half_precision_tensors_are_taken() -> None:
    n = torch.arange(3)
    records = Records.from_tensors(n, n, n, torch.tensor([0.5, 1, 2]).bfloat16(), torch.zeros(3).half())
    assert records.gap.tolist() == [0.5, 1.0, 2.0]
    assert records.correct.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": np.array([1, np.nan, 1], np.float32)}, "gap must be finite and >= 0, got nan at sample 11"),
        ({"radius": np.array([1, 1, np.inf], np.float32)}, "radius must be finite and >= 0, got inf at sample 12"),
        ({"radius_box": np.array([-1, 1, 1], np.float32)}, "radius_box must be finite and >= 0, got -1.0"),
        ({"label": np.arange(4)}, "label must hold one value for each of 3 samples"),
        ({"index": np.array([1, 2, 1])}, "sample 1 is recorded more than once"),
        ({"attacks": {"a,b": AttackRecords(np.ones(3, bool), np.ones(3, np.float32))}}, "an attack's name"),
        ({"attacks": {"cw": AttackRecords(np.ones(3, bool), np.full(3, np.nan, np.float32))}}, "norms of cw"),
        ({"attacks": {"cw": AttackRecords(np.ones(2, bool), np.ones(3, np.float32))}}, "cw_broken must hold one value"),
    ],
)
def test_bad_records_are_refused_in_one_line(change: dict[str, object], message: str) -> None:
    index = np.array([10, 11, 12])
    good = Records(index, index, index, np.ones(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(ValueError, match=message) as caught:
        replace(good, **change)  # type: ignore[arg-type]
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


def test_reading_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Records.from_csv(tmp_path / "none.csv")

import io

from made_up_records import made_up_evaluation, made_up_records, made_up_run
from rich.console import Console

from l2nnn_lightning.evaluation.measure.results import gap_bins, summarize
from l2nnn_lightning.evaluation.report.tables import bin_rows, markdown_table, rich_table, summary_rows


def test_terminal_and_markdown_show_the_same_numbers() -> None:
    records = made_up_records(200, attacked=True, box=True)
    results = summarize(made_up_evaluation(records))
    rows = summary_rows(results)
    terminal = io.StringIO()
    Console(width=120, file=terminal).print(rich_table("Evaluation", *rows))
    markdown = markdown_table(*rows)
    for name, value in rows[1]:
        assert name in terminal.getvalue()
        assert value in terminal.getvalue()
        assert f"| {name} | {value} |" in markdown
    shown = dict(rows[1])
    assert shown["accuracy"] == f"{100 * results['accuracy']:.1f}%"
    assert shown["certified accuracy, L2 radius 1.58"] == f"{100 * results['certified']['1.58']:.1f}%"
    assert shown["accuracy under cw, L2 eps 3, 1000 iterations"] == f"{100 * results['attacks'][0]['accuracy']:.1f}%"


def test_penalty_mode_shows_no_certified_number() -> None:
    results = summarize(made_up_evaluation(made_up_records(20, hard=False), run=made_up_run(hard=False)))
    shown = dict(summary_rows(results)[1])
    assert shown["certified accuracy"] == "penalty mode: nothing is proved"
    assert not any("radius" in name for name in shown)


def test_bin_table_has_a_row_per_bin_and_a_column_per_attack() -> None:
    bins = gap_bins(made_up_evaluation(made_up_records(200, attacked=True)), 1.0)
    header, rows = bin_rows(bins, 1.0)
    assert header[3:] == ("accuracy", "certified @1", "under cw", "under pgd_l2", "under pgd_linf")
    assert len(rows) == 10
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0][3] == f"{100 * bins['accuracy'][0]:.1f}%"


def test_markdown_escapes_what_would_split_a_cell() -> None:
    lines = markdown_table(("a", "b"), [("x|y", "1")]).splitlines()
    assert lines == ["| a | b |", "|:---|---:|", "| x\\|y | 1 |"]

"""From per-sample records to tables, figures and a report."""

from l2nnn_lightning.evaluation.measure.records import AttackRecords, Records
from l2nnn_lightning.evaluation.measure.results import certified_accuracy, gap_bins, robust_accuracy, summarize
from l2nnn_lightning.evaluation.measure.run import AttackInfo, RunInfo
from l2nnn_lightning.evaluation.measure.soundness import CertificateViolation, check_sound
from l2nnn_lightning.evaluation.report.tables import bin_rows, rich_table, summary_rows
from l2nnn_lightning.evaluation.report.write import bin_radius, write_evaluation

__all__ = [
    "AttackInfo",
    "AttackRecords",
    "CertificateViolation",
    "Records",
    "RunInfo",
    "bin_radius",
    "bin_rows",
    "certified_accuracy",
    "check_sound",
    "gap_bins",
    "rich_table",
    "robust_accuracy",
    "summarize",
    "summary_rows",
    "write_evaluation",
]

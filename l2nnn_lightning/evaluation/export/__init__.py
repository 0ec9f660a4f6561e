"""``python -m l2nnn_lightning export``: a checkpoint as ONNX, as a torch.export program, or as safetensors."""

from l2nnn_lightning.evaluation.export.command import run_export
from l2nnn_lightning.evaluation.export.graph import CertifiedNetwork

__all__ = ["CertifiedNetwork", "run_export"]

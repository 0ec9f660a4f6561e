"""``python -m l2nnn_lightning export``: a checkpoint as ONNX, as a torch.export program, or as safetensors."""

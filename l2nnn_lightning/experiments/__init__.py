"""What reproduces the paper and measures the code: studies, benchmarks, the pages' tables, the demo."""

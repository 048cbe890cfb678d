"""Metrics, on arrays and files alone."""

from vdet_ssl.metrics.ava import AVAResult, average_precision, evaluate, evaluate_files

__all__ = ["AVAResult", "average_precision", "evaluate", "evaluate_files"]

"""Metrics, on arrays and files alone."""

from vdet_ssl.metrics.ava import average_precision, evaluate, evaluate_files
from vdet_ssl.metrics.ava_result import AVAResult

__all__ = ["AVAResult", "average_precision", "evaluate", "evaluate_files"]

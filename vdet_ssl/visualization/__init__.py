"""Annotated videos, and plots of runs."""

from vdet_ssl.visualization.annotated_video import KeyFrame, write_annotated_video
from vdet_ssl.visualization.metrics_file import read_metrics

__all__ = ["KeyFrame", "read_metrics", "write_annotated_video"]

"""Evaluators, as detectron2's: reset, process, evaluate."""

from vdet_ssl.evaluation.ava_evaluator import AVAEvaluator
from vdet_ssl.evaluation.knn import KNNEvaluator

__all__ = ["AVAEvaluator", "KNNEvaluator"]

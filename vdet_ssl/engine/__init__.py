"""Trainers, one for each task, and what runs them."""

from vdet_ssl.engine.detection_trainer import DetectionTrainer
from vdet_ssl.engine.launch import launch
from vdet_ssl.engine.predictor import ActionPredictor
from vdet_ssl.engine.setup import setup
from vdet_ssl.engine.ssl_trainer import SSLTrainer
from vdet_ssl.engine.trainer import VideoTrainer, trainer_class

__all__ = ["ActionPredictor", "DetectionTrainer", "SSLTrainer", "VideoTrainer", "launch", "setup", "trainer_class"]

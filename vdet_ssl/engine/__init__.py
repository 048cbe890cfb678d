from .defaults import default_argument_parser, setup, trainer_class
from .launch import launch
from .trainer import SSLTrainer, VideoTrainer

__all__ = ["SSLTrainer", "VideoTrainer", "default_argument_parser", "launch", "setup", "trainer_class"]

from vdet_ssl.engine.defaults import default_argument_parser, setup, trainer_class
from vdet_ssl.engine.launch import launch
from vdet_ssl.engine.trainer import SSLTrainer, VideoTrainer

__all__ = ["SSLTrainer", "VideoTrainer", "default_argument_parser", "launch", "setup", "trainer_class"]

"""How mappers open videos."""

from dataclasses import dataclass

from vdet_ssl.config import CfgNode
from vdet_ssl.data.video.reader import VideoReader, open_video


@dataclass(frozen=True)
class Decoder:
    """The settings of `open_video`.

    Attributes:
        backend: "pyav" or "torchcodec".
        timeout_s: seconds after which work on one video ends in a VideoError; 0: never.
    """

    backend: str
    timeout_s: float

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> "Decoder":
        return cls(cfg.INPUT.DECODER, cfg.DATALOADER.DECODE_TIMEOUT_S)

    def open(self, path: str) -> VideoReader:
        return open_video(path, backend=self.backend, timeout_s=self.timeout_s)

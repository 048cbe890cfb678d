"""From a record to a sample: what is decoded when, and how it is augmented."""

from vdet_ssl.data.mappers.key_frames import KeyFrameMapper
from vdet_ssl.data.mappers.videos import VideoMapper

__all__ = ["KeyFrameMapper", "VideoMapper"]

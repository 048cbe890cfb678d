"""Reading and writing video files.

Each module imports only those before it: info, orientation, yuv; planning (time stamps alone), container (the open
file), packets; clip_buffer, decoding; pyav_reader, torchcodec_reader, reader; writer, transcode.
"""

from vdet_ssl.data.video.info import VIDEO_EXTENSIONS, VideoInfo, is_video
from vdet_ssl.data.video.reader import VideoReader, decode_clips, open_video, probe
from vdet_ssl.data.video.writer import VideoWriter

__all__ = [
    "VIDEO_EXTENSIONS",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "decode_clips",
    "is_video",
    "open_video",
    "probe",
]

"""Tables of boxes in AVA's formats, and ground truth."""

from vdet_ssl.structures.ava_csv import BoxTable, read_boxes, read_excluded, write_boxes
from vdet_ssl.structures.label_map import read_label_map

__all__ = ["BoxTable", "read_boxes", "read_excluded", "read_label_map", "write_boxes"]

"""Tables of boxes in AVA's formats, and ground truth."""

from vdet_ssl.structures.ava_csv import BoxTable, read_boxes, read_excluded, read_label_map, write_boxes

__all__ = ["BoxTable", "read_boxes", "read_excluded", "read_label_map", "write_boxes"]

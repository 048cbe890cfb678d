from vdet_ssl.modeling.meta_arch.action_detector import ActionDetector

__all__ = ["ActionDetector"]

"""What a user would guess can be imported."""

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "vdet_ssl.config": ["get_cfg", "load_cfg", "add_keys", "Key"],
    "vdet_ssl.data": [
        "build_train_loader",
        "build_test_loader",
        "open_video",
        "load_videos",
        "ClipSpec",
        "VideoMapper",
    ],
    "vdet_ssl.engine": ["SSLTrainer", "DetectionTrainer", "ActionPredictor", "launch", "setup", "trainer_class"],
    "vdet_ssl.evaluation": ["AVAEvaluator", "KNNEvaluator"],
    "vdet_ssl.metrics": ["evaluate", "average_precision"],
    "vdet_ssl.structures": ["BoxTable", "read_boxes"],
    "vdet_ssl.checkpoint": ["VideoCheckpointer", "load_whole_model"],
    "vdet_ssl.solver": ["LARS", "build_optimizer"],
    "vdet_ssl.visualization": ["write_annotated_video", "read_metrics"],
    "vdet_ssl.errors": ["UserError", "ConfigError", "VideoError"],
}


@pytest.mark.parametrize("module", NAMES)
def test_the_obvious_imports_work(module):
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in NAMES[module])
    listed = getattr(loaded, "__all__", NAMES[module])
    assert all(hasattr(loaded, name) and name in dir(loaded) for name in listed)


@pytest.mark.parametrize("module", ["vdet_ssl.metrics", "vdet_ssl.structures", "vdet_ssl.data", "vdet_ssl.errors"])
def test_torch_is_not_imported_by_what_does_without(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""A synthetic world of moving people: what `datasets/prepare_synthetic.py` renders."""

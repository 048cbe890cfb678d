"""All keys that this framework adds to detectron2's config, changes the default of, or reads.

Sections, tables and equations are those of arXiv 2104.14558; T, tau and rho are its symbols.
"""

from vdet_ssl.config.key import Key
from vdet_ssl.config.keys import data, detector, inputs, model, run, solver, ssl, test

KEYS: tuple[Key, ...] = (
    *run.KEYS,
    *data.KEYS,
    *inputs.KEYS,
    *model.KEYS,
    *ssl.KEYS,
    *detector.KEYS,
    *solver.KEYS,
    *test.KEYS,
)

"""Measure the peak memory of one pre-training step for several numbers of clips rho.

On a GPU it is what torch allocated at most; on a CPU the growth of the process' resident memory, each rho in a process
of its own.  The clips themselves, uint8, are subtracted: for MoCo and BYOL what remains should not depend on rho
(section 3.2), for SimCLR and SwAV it grows with it.
"""

import multiprocessing

import torch
from detectron2.modeling import build_model
from tabulate import tabulate

from vdet_ssl.config import load_cfg
from vdet_ssl.modeling.ssl import SSLMethod


def add_arguments(parser):
    parser.add_argument("--config-file", default="configs/BYOL/slow_r50_8x8.yaml")
    parser.add_argument("--num-clips", nargs="+", type=int, default=[2, 4, 6], help="values of rho")
    parser.add_argument("--batch-size", type=int, default=4, help="videos")
    parser.add_argument("--size", type=int, default=112, help="height and width of a clip")
    parser.add_argument("opts", nargs="*", help="KEY VALUE overrides of the config")


def run(args):
    figures = {}
    for num_clips in args.num_clips:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures[num_clips] = pool.apply(measure, (args, num_clips))
    first = figures[args.num_clips[0]]["step_mib"]
    rows = [[rho, f["clips_mib"], f["step_mib"], f["step_mib"] / first - 1] for rho, f in figures.items()]
    print(
        tabulate(rows, ["rho", "clips, MiB", "peak without them, MiB", "growth"], floatfmt=("", ".1f", ".1f", "+.1%"))
    )
    return figures


def measure(args, num_clips):
    """Return {"clips_mib", "step_mib"} of a step with `num_clips` random clips of each video."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg = load_cfg(args.config_file, [*args.opts, "MODEL.DEVICE", device])
    model: SSLMethod = build_model(cfg)
    shape = (args.batch_size, cfg.INPUT.NUM_FRAMES, args.size, args.size, 3)
    clips = [torch.randint(256, shape, dtype=torch.uint8, device=device) for _ in range(num_clips)]
    clip_bytes = sum(clip.numel() for clip in clips)
    before = reset_peak(device)
    step(model, clips)
    return {"clips_mib": clip_bytes / 2**20, "step_mib": (peak(device) - before) / 2**20}


def step(model, clips):
    for part in model.split(clips):
        sum(model(part).values()).backward()
    model.after_step(0.0)


def reset_peak(device):
    """Forget the peak so far; return the bytes in use, the clips among them."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # resets VmHWM
    return peak(device)


def peak(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as status:
        high = next(line for line in status if line.startswith("VmHWM"))
    return int(high.split()[1]) * 1024

"""detectron2's launch, on machines without a GPU too."""

import os

import torch
import torch.multiprocessing as mp
from detectron2.engine.launch import _find_free_port
from detectron2.engine.launch import launch as launch_on_gpus
from detectron2.utils import comm

from vdet_ssl.errors import ConfigError


def launch(main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url=None, args=()):
    """Run `main_func(*args)` in `num_gpus_per_machine` processes on each machine, as detectron2's `launch` does.

    Without a GPU the processes share one machine's CPU and talk through gloo.
    """
    if torch.cuda.is_available() or num_gpus_per_machine * num_machines <= 1:
        launch_on_gpus(main_func, num_gpus_per_machine, num_machines, machine_rank, dist_url, args)
    elif num_gpus_per_machine > os.cpu_count():
        raise ConfigError(
            f"--num-gpus is {num_gpus_per_machine}: this machine has no GPU, and only {os.cpu_count()} cores; leave it out"
        )
    elif num_machines > 1:
        raise ConfigError("Several machines need GPUs; without one, use --num-machines 1")
    else:
        if dist_url == "auto":
            dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
        world_size = num_gpus_per_machine
        mp.spawn(_cpu_worker, (main_func, world_size, dist_url, args), nprocs=world_size)


def _cpu_worker(rank, main_func, world_size, dist_url, args):
    torch.set_num_threads(max(torch.get_num_threads() // world_size, 1))
    torch.distributed.init_process_group("gloo", init_method=dist_url, world_size=world_size, rank=rank)
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(world_size)
    else:  # detectron2 0.6
        comm._LOCAL_PROCESS_GROUP = torch.distributed.new_group(list(range(world_size)))
    main_func(*args)
    torch.distributed.destroy_process_group()

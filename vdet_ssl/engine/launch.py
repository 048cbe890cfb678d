"""detectron2's launch, on machines without a GPU too."""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp
from detectron2.engine.launch import _find_free_port
from detectron2.engine.launch import launch as launch_on_gpus
from detectron2.utils import comm

from vdet_ssl.errors import ConfigError, UserError, is_users_error


def launch(
    main_func: Callable,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
) -> None:
    """Run `main_func(*args)` in `num_gpus_per_machine` processes on each machine, as detectron2's `launch` does.

    Without a GPU the processes share one machine's CPU and talk through gloo.

    Raises:
        UserError, OSError: the first that one of the processes raised.
    """
    _refuse_other_launchers()
    if num_gpus_per_machine * num_machines <= 1:
        main_func(*args)
        return
    if not torch.cuda.is_available():
        _check_cpu(num_gpus_per_machine, num_machines)
    if dist_url == "auto" and num_machines == 1:
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    errors: Any = mp.get_context("spawn").SimpleQueue()
    job = (_passing_errors_on, (main_func, errors, args))
    try:
        if torch.cuda.is_available():
            main, arguments = job
            launch_on_gpus(main, num_gpus_per_machine, num_machines, machine_rank, dist_url, arguments)
        else:
            mp.spawn(_cpu_worker, (num_gpus_per_machine, dist_url, *job), nprocs=num_gpus_per_machine)
    except (mp.ProcessRaisedException, mp.ProcessExitedException):
        if not errors.empty():
            raise errors.get() from None
        raise
    finally:
        for process in multiprocessing.active_children():  # that train on, when this one is interrupted
            process.terminate()


def _refuse_other_launchers() -> None:
    """Raise ConfigError where torchrun or srun has started several processes: each would be a training of its own."""
    for name, launcher in (("WORLD_SIZE", "torchrun"), ("SLURM_NTASKS", "srun")):
        is_task = launcher != "srun" or "SLURM_STEP_ID" in os.environ
        if is_task and os.environ.get(name, "1") != "1":
            raise ConfigError(
                f"{launcher} has started {os.environ[name]} processes ({name}), each of which would be a training of its "
                "own: start one on each machine, with --num-gpus, --num-machines, --machine-rank and --dist-url"
            )


def _check_cpu(num_processes: int, num_machines: int) -> None:
    if num_processes > (os.cpu_count() or 1):
        raise ConfigError(
            f"--num-gpus is {num_processes}: this machine has no GPU, and only {os.cpu_count()} cores; leave it out"
        )
    if num_machines > 1:
        raise ConfigError("Several machines need GPUs; without one, use --num-machines 1")


def _passing_errors_on(main_func: Callable, errors: Any, args: tuple) -> None:
    """Run in a process of its own; errors that a user can mend are handed to the process that started it."""
    try:
        main_func(*args)
    except (UserError, OSError) as error:
        if is_users_error(error):
            errors.put(error)
        raise


def _cpu_worker(rank: int, world_size: int, dist_url: str, main_func: Callable, args: tuple) -> None:
    torch.set_num_threads(max(torch.get_num_threads() // world_size, 1))
    torch.distributed.init_process_group("gloo", init_method=dist_url, world_size=world_size, rank=rank)
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(world_size)
    else:  # detectron2 0.6
        comm._LOCAL_PROCESS_GROUP = torch.distributed.new_group(list(range(world_size)))
    main_func(*args)
    torch.distributed.destroy_process_group()

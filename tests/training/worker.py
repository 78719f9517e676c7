"""One process of the runs in test_distributed.py, started by torch.distributed.run.

python worker.py train CONFIG.json FOLDER [--resume] [--stop-after STEP]   trains, and publishes nothing
python worker.py fail CONFIG.json FOLDER KIND PLACE                        raises in process 0, which stays
python worker.py lose RANK STEP ARGUMENTS…              the command line; one process is killed after a step
"""

import builtins
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

torch.set_num_threads(1)


def die_after(step: int) -> None:
    """Let `kill -9` end this process after so many steps of its optimizer, however long they take."""
    done = []

    def count(*_: object) -> None:
        done.append(1)
        if len(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(count)


def train(config: str, folder: str, *options: str) -> int:
    from atmoloss.training import checkpoint, lag
    from atmoloss.training.config import make_config
    from atmoloss.training.distributed import init_process_group

    if "--stop-after" in options:
        last, save = int(options[options.index("--stop-after") + 1]), checkpoint.save_checkpoint

        def save_and_stop(where, state):
            save(where, state)
            if state["step"] == last:
                os._exit(3)

        checkpoint.save_checkpoint = save_and_stop
    # Another folder for each process: only that of process 0 may come to be.
    where = Path(folder) / f"as-seen-by-{os.environ.get('RANK', '0')}"
    with init_process_group("cpu", timeout_minutes=60) as group:
        lag.train(make_config(json.loads(Path(config).read_text())), where, resume="--resume" in options, group=group)
    return 0


def fail(config: str, folder: str, kind: str, place: str) -> int:
    """Train until process 0 fails in ``place``, where it alone is, or all are; it stays until the others have ended."""
    from atmoloss import errors
    from atmoloss.training import checkpoint, lag, loop
    from atmoloss.training.config import make_config
    from atmoloss.training.distributed import init_process_group

    is_main = os.environ["RANK"] == "0"

    def raises(*_, **__):
        raise {**vars(errors), **vars(builtins)}[kind]("no luck")

    if is_main:
        module, name = {"record": (checkpoint, "write_record"), "open": (loop, "open_sources")}[place]
        setattr(module, name, raises)
    ended = Path(folder) / "ended"
    try:
        with init_process_group("cpu", timeout_minutes=60) as group:
            lag.train(make_config(json.loads(Path(config).read_text())), Path(folder) / "run", group=group)
    except BaseException as error:
        print(f"process {os.environ['RANK']}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
    if not is_main:
        ended.write_text("")
    while is_main and not ended.exists():  # for ever, where the other one waits for this one
        time.sleep(0.05)
    return 0


def lose(rank: str, step: str, *arguments: str) -> int:
    from atmoloss.cli import main

    if os.environ["RANK"] == rank:
        die_after(int(step))
    return main(arguments)


if __name__ == "__main__":
    sys.exit({"train": train, "fail": fail, "lose": lose}[sys.argv[1]](*sys.argv[2:]))

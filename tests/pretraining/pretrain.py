"""`python pretrain.py MOMENT ARGUMENT…`: runs `kbert ARGUMENT…`, and kills itself with SIGKILL at a moment.

Moments: "-" is none; "step N" is after step N; "before N" after the evaluation that step N ends in but before its state
is kept; "state N" amid the writing of the state after step N; "clearing N" after that, before older states are removed;
"model" amid the writing of the finished model. "told N" sends SIGTERM after step N, which lets the run keep its state.
"""

from __future__ import annotations

import os
import signal
import sys

from kbert import cli


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: str) -> None:
    import safetensors.numpy

    from kbert.pretraining import run
    from kbert.training import callbacks

    what, _, number = moment.partition(" ")
    write = safetensors.numpy.save_file

    def dying_write(arrays, path, **options):
        name = "model.safetensors" if what == "model" else "variables.safetensors"
        if str(path).endswith(name) and (what == "model" or f"step-{number}." in str(path)):
            write(arrays, path, **options)
            with open(path, "r+b") as file:
                file.truncate(1000)
            die()
        write(arrays, path, **options)

    class Dying(run.PretrainingState):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if what == "step" and self.step == int(number):
                die()
            if what == "told" and self.step == int(number):
                os.kill(os.getpid(), signal.SIGTERM)

        def on_epoch_end(self, epoch, logs=None):
            if what == "before" and self.step == int(number):
                die()
            super().on_epoch_end(epoch, logs)

    def dying_remove(path, **options):
        if what == "clearing" and (path.parent / f"step-{number}").exists():
            die()
        remove(path, **options)

    remove = callbacks.shutil.rmtree
    run.PretrainingState = Dying
    safetensors.numpy.save_file = dying_write
    callbacks.shutil.rmtree = dying_remove


if __name__ == "__main__":
    if sys.argv[1] != "-":
        arrange(sys.argv[1])
    sys.exit(cli.main(sys.argv[2:]))

"""`python finetune.py SETTINGS [STEP]`: runs `kbert finetune classify`, and kills itself after a step if told to."""

from __future__ import annotations

import os
import signal
import sys

from kbert import cli


def die_after(step: int) -> None:
    from kbert.tasks import finetuning
    from kbert.training.callbacks import Resuming

    class Dying(Resuming):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if self.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    finetuning.Resuming = Dying


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_after(int(sys.argv[2]))
    sys.exit(cli.main(["finetune", "classify", "--config", sys.argv[1]]))

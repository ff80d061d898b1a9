"""Trains in mixed_float16 on one and on two logical CPUs, from a scale that overflows.

`python -m training.train_half FOLDER` writes half.json and the weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from training.train_on import classifier, examples

SCALE = 2.0**24


def main(folder: Path) -> None:
    from kbert.training.arithmetic import arithmetic_for
    from kbert.training.strategies import strategy_for

    texts, classes, _ = examples()
    found = {}
    for devices in (2, 1):
        strategy = strategy_for(f"cpu:{devices}")
        with arithmetic_for(strategy, "mixed_float16").scope():
            model = classifier(strategy)
        model.compile(learning_rate=0.003)
        model.optimizer.dynamic_scale.assign(SCALE)
        history = model.fit(texts, classes, batch_size=12, epochs=6, seed=1, verbose=0).history
        found[str(devices)] = {
            "updates": int(model.optimizer.iterations.numpy()),
            "scale": float(model.optimizer.dynamic_scale.numpy()),
            "losses": history["loss"],
        }
        np.savez(folder / f"half-{devices}.npz", **{v.path.split("/", 1)[1]: v.numpy() for v in model.variables})
    (folder / "half.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

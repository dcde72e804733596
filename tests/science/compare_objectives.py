"""Compare what keeps a pretraining about its scans: objectives and initialisations, the same steps on made-up people.

    python tests/science/compare_objectives.py [--steps 300]

Prints, for each, the last loss, the share of the targets' variance between windows that is predicted, and the
monitor's numbers on windows that were not trained on. Two minutes on one core.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from planted_people import alarms_after_training, task_of

REFERENCE = {"initialisation": "reference"}
LAYER_NORM = {"targets": "layer_norm"}
VARIANTS = {
    "as published": REFERENCE | {"objective": LAYER_NORM},
    "+ position targets": REFERENCE | {"objective": {}},
    "xavier": {"objective": LAYER_NORM},
    "xavier + vicreg": {"objective": LAYER_NORM | {"regularizer": "vicreg", "weight": 0.1}},
    "xavier + position targets (default)": {"objective": {}},
    "default + vicreg": {"objective": {"regularizer": "vicreg", "weight": 0.1}},
    "default + contrast": {"objective": {"regularizer": "contrast", "weight": 0.3}},
}
COLUMNS = (
    "prediction",
    "explained_between",
    *tuple(f"collapse/{name}" for name in ("between_std", "subject_share", "mean_cosine", "sensitivity_phase")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    print(f"{'':37}" + "".join(f"{name.rpartition('/')[2]:>19}" for name in COLUMNS) + "  alarms")
    for name, values in VARIANTS.items():
        alarms, numbers = alarms_after_training(task_of(steps=steps, **values))
        print(f"{name:37}" + "".join(f"{numbers[column]:19.4g}" for column in COLUMNS) + f"  {len(alarms)}", flush=True)


if __name__ == "__main__":
    main()

"""Ten nights over a study that grows, loses, corrects and spoils scans and changes its model: printed, and drawn.

    PYTHONPATH=tests python tests/science/ten_nights.py [--out build/ten-nights]

Every night is `boldstream nightly` on a local Ray; the page of the last one, with all ten, stays in the folder.
"""

import argparse
import logging
import os
import shutil
import tempfile
from pathlib import Path

from boldstream.gradients import GradientConfig, fit_gradient
from boldstream.ingest import ingest_cohort
from boldstream.nightly.nights import past_nights
from boldstream.pretrain import PretrainConfig, pretrain
from boldstream.tables import run_tables
from night_study import NightStudy, scrambled
from synthetic import ingest_config, series, write_scan, write_study

FIRST = 24
BAD = [f"{i:02d}" for i in range(60, 72)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/ten-nights"), help="where the last page goes")
    out = parser.parse_args().out
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
        first, second = models(root)
        study = NightStudy(root, first, FIRST)
        table = ["| night | what came | outcome | made | champion | vectors | why |", "|-|-|-|-|-|-|-|"]
        for number, (told, change, mode) in enumerate(nights(study, first, second), 1):
            change()
            study.night(mode=mode)
            night = past_nights(study.warehouse, "every-night")[-1]
            why = "; ".join(check.name for check in night.checks if check.passed is False) or "-"
            table.append(
                f"| {number} | {told} | {night.outcome} | {night.candidate} | {night.champion} | {night.rows} | {why} |"
            )
            print(table[-1], flush=True)
        print("\n".join(["", *table]))
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(study.root / "page", out, dirs_exist_ok=True)
        print(f"\nthe last night's page: {out / 'index.html'}")


def models(root):
    """Return an untrained model of the study, and one of another seed."""
    (root / "pilot").mkdir()
    write_study(root / "pilot", [f"{i:02d}" for i in range(12)])
    warehouse = str(root / "pilot" / "warehouse")
    cohort = ingest_cohort(ingest_config(root / "pilot"))
    gradient = fit_gradient(GradientConfig(output="g", cohort="study", n_components=3, warehouse=warehouse))
    known = {"cohort": cohort.pointer, "gradient": gradient.pointer, "warehouse": warehouse, "size": "tiny"}
    known |= {"n_timepoints": 32, "patch_size": 8, "scaling": "zscore", "steps": 0, "holdout": 0}
    return [pretrain(PretrainConfig(output=f"toy{seed}", seed=seed, **known)).pointer for seed in (1, 2)]


def nights(study, first, second):
    """Yield what each night brings, how, and the mode of the night."""

    def upgrade():
        study.embed(second)

    def roll_back():
        run_tables(["rollback", "every-night", "--warehouse", study.warehouse])
        study.embed(first)

    yield f"{FIRST} scans, the first", lambda: None, "add"
    yield "8 new", lambda: study.add([f"{i:02d}" for i in range(24, 32)]), "add"
    yield "nothing", lambda: None, "add"
    yield "2 withdrawn", lambda: study.remove(["03", "11"]), "add"
    yield "1 corrected", lambda: write_scan(study.root / "scans", "05", series(99)), "add"
    yield "12 with regions out of order", lambda: study.add(BAD, scrambled), "add"
    yield "the 12 taken away, 6 new", lambda: (study.remove(BAD), study.add([f"{i:02d}" for i in range(32, 38)])), "add"
    yield "another model", upgrade, "reembed"
    yield "rolled back by hand, the old model", roll_back, "add"
    yield "5 new", lambda: study.add([f"{i:02d}" for i in range(38, 43)]), "add"


if __name__ == "__main__":
    main()

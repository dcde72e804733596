import dataclasses

import numpy as np
import pytest
from matplotlib import image

from boldstream.analysis.collapse import CollapseThresholds
from boldstream.artifacts.cohort import KIND as COHORTS
from boldstream.artifacts.cohort import Cohort
from boldstream.artifacts.gradient import KIND as GRADIENTS
from boldstream.artifacts.gradient import Gradient
from boldstream.artifacts.manifest import Manifest
from boldstream.artifacts.tables import VersionedTable
from boldstream.pretrain.card import write_card
from boldstream.pretrain.figures import (
    MONITOR_PANELS,
    TRAINING_PANELS,
    draw_connectivity,
    draw_monitor,
    draw_training,
    save,
)
from boldstream.pretrain.monitor import latent_connectivity, mean_connectivity
from boldstream.pretrain.scans import TrainingScans
from boldstream.refs import CohortRef, GradientRef
from boldstream.storage import Warehouse
from boldstream.tracking import job_run
from small_training import training_task

STEPS = [1, 10, 20]
NAMES = [name for panels in (TRAINING_PANELS, MONITOR_PANELS) for names in panels.values() for name in names]


def curves(names=NAMES, values=(0.5, 0.25, 0.125)):
    return {name: (STEPS[: len(values)], list(values)) for name in names}


def connectivity(seed=0, n=6):
    return np.corrcoef(np.random.default_rng(seed).normal(size=(n, 50)))


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]


def saved(figure, folder):
    save(figure, folder / "figures" / "figure.png")
    pixels = image.imread(folder / "figures" / "figure.png")
    assert min(pixels.shape[:2]) > 200
    return pixels


@pytest.mark.parametrize(
    ("draw", "panels"),
    [(draw_training, TRAINING_PANELS), (lambda c: draw_monitor(c, CollapseThresholds()), MONITOR_PANELS)],
)
def test_curves__are_a_panel_a_quantity(draw, panels, tmp_path):
    figure = draw(curves())
    assert titles(figure) == list(panels)
    assert saved(figure, tmp_path).std() > 0
    some = list(panels)[:2]
    assert titles(draw(curves([name for title in some for name in panels[title]]))) == some


def test_curves__of_nothing_are_an_empty_figure(tmp_path):
    figure = draw_training({})
    assert titles(figure) == []
    saved(figure, tmp_path)


@pytest.mark.parametrize("values", [(0.0,), (-1.0, float("inf"), 2.0), tuple(range(100))])
def test_curves__of_awkward_values_are_drawn(values, tmp_path):
    steps = list(range(len(values)))
    figure = draw_monitor({name: (steps, list(values)) for name in NAMES}, CollapseThresholds())
    assert saved(figure, tmp_path).std() > 0


def test_monitor__shows_the_limits_of_alarms():
    figure = draw_monitor(curves(["collapse/rankme", "collapse/rankme_centred"]), CollapseThresholds(rankme_centred=7))
    dotted = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert dotted == [7]


def test_connectivity__says_how_alike_the_two_are(tmp_path):
    windows = connectivity()
    figure = draw_connectivity(windows, windows)
    assert titles(figure) == ["Functional connectivity of the windows", "of their latents (edges correlate 1.00)"]
    saved(figure, tmp_path)


def test_connectivity__of_latents_that_are_all_the_same_is_drawn(tmp_path):
    """A fully collapsed encoder: no region's latents vary, no edge correlates with anything."""
    latents = latent_connectivity([np.ones((5, 6, 8), dtype=np.float32)])
    assert not latents.any()
    figure = draw_connectivity(connectivity(), latents)
    assert titles(figure)[1] == "of their latents (no edge differs from another)"
    saved(figure, tmp_path)


def test_connectivity__of_latents_ignores_what_all_scans_have_in_common():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(20, 6, 8)).astype(np.float32)
    latents[:, 1] = latents[:, 0]
    found = latent_connectivity([latents[:7], latents[7:]])
    assert found.shape == (6, 6)
    np.testing.assert_allclose(np.diag(found), 1)
    assert found[0, 1] == pytest.approx(1)
    position = rng.normal(size=(1, 6, 8)).astype(np.float32) * 10
    np.testing.assert_allclose(latent_connectivity([latents + position]), found, atol=1e-4)


def test_connectivity__of_windows_is_the_mean_of_their_correlations():
    windows = np.random.default_rng(0).normal(size=(3, 16, 6)).astype(np.float32)
    wanted = np.mean([np.corrcoef(window.T) for window in windows], axis=0)
    np.testing.assert_allclose(mean_connectivity(windows), wanted, atol=1e-6)


def manifest(kind, name, **content):
    return Manifest.create(
        kind=kind, name=name, version="1", config={}, config_hash="", parents=[], rows=9, digest="d" * 64,
        mlflow_run_id=None, content=content,
    )  # fmt: skip


@pytest.fixture
def card(tracking, tmp_path):
    """Return a function that writes the card of a made-up training into a folder, and gives its text."""

    def write(name, alarms=(), measured=True, held_out=True, n_short=3, **values):
        task = training_task(output=name, **values)
        task = dataclasses.replace(task, held_out=held_out)
        cohort = Cohort(
            CohortRef("wh/cohorts/study", "2", "c" * 64),
            manifest(COHORTS, "study", atlas="toy", roi_names=list(task.roi_names)),
            VersionedTable(Warehouse.at(str(tmp_path / "wh")), COHORTS, "study"),
            (),
        )
        gradient = Gradient(
            GradientRef("wh/gradients/toy", "1", "e" * 64),
            manifest(GRADIENTS, "toy", atlas="toy"),
            task.roi_names,
            task.gradient.astype(np.float64),
        )
        subjects = ("07", "12") if held_out else ()
        scans = TrainingScans(task.plan, task.scaler, task.monitored, task.probed, subjects, n_short)
        model = tmp_path / "model"
        model.mkdir()
        with job_run("pretrain", name, task.config) as run:
            if measured:
                for step in (1, 2):
                    run.log_metrics({"loss": 0.5 / step, "lr": 1e-3, "collapse/rankme": 3.25}, step=step)
                np.savez(model / "connectivity.npz", windows=connectivity(), latents=connectivity(1))
            write_card(model, task, cohort, gradient, scans, run, alarms)
        return model, (model / "README.md").read_text()

    return write


def test_card__says_what_the_model_was_made_of(card):
    alarms = ["step 4: subject_share 1e-05 is below 0.001"]
    model, text = card("mine", alarms, data_licence="CC-BY-NC 4.0", objective={"regularizer": "vicreg"}, seed=3)
    for part in (
        "# mine\n",
        "pretrained for 4 optimizer steps",
        "Cohort `wh/cohorts/study@2` (sha256 `" + "c" * 64,
        "atlas toy, 6 regions",
        "8 scans trained on; 3 too short or of unknown repetition time; 2 subjects held out",
        "Gradient `wh/gradients/toy@1`",
        "Licence of the data, as stated by whoever trained: CC-BY-NC 4.0.",
        "Windows of 16 timepoints, at the scans' own repetition time, patches of 4; scaling `robust`",
        '"regularizer": "vicreg"',
        "seed 3",
        "| loss | 0.25 |",
        "| collapse/rankme | 3.25 |",
        "measured on 4 held-out scans",
        f"## Alarms\n\n- {alarms[0]}\n",
        "the untrained twin on the same folds",
    ):
        assert part in text
    written = sorted(path.relative_to(model).as_posix() for path in model.rglob("*.*"))
    assert written == ["README.md", "figures/connectivity.png", "figures/monitor.png", "figures/training.png"]
    for line in text.splitlines():
        if line.startswith("!["):
            assert (model / line.rpartition("(")[2].rstrip(")")).is_file()


def test_card__without_licence_held_out_scans_and_alarms_says_so(card):
    _, text = card("bare", held_out=False, target_t_r=2.0)
    assert "as stated by whoever trained: not stated." in text
    assert "measured on 4 trained scans (none was held out)" in text
    assert "0 subjects held out" in text
    assert "at 2 s, patches" in text
    assert "## Alarms\n\nNone.\n" in text


def test_card__of_the_untrained_twin_has_no_curves(card):
    model, text = card("twin", measured=False, steps=0)
    assert "not trained: the untrained twin" in text
    assert "At the end" not in text
    assert [path.name for path in model.iterdir()] == ["README.md"]

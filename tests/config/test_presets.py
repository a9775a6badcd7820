"""Experiments of several rows: from a preset's name to the runs it stands for."""

import pytest

from kdrun.analysis import published
from kdrun.analysis.networks import printed_networks
from kdrun.cli import main, overrides
from kdrun.cli.listing import TABLES, help_text
from kdrun.config import presets, registry
from kdrun.config.identity import identity
from kdrun.config.recipe import Recipe
from kdrun.config.registration import register
from kdrun.config.schema import ConfigError

SURVEYS = {**{f"survey/gou_table_{number}": f"Gou {number}" for number in (1, 2, 3, 4, 5, 6)},
           **{f"survey/alkhulaifi_{number}": f"Alkhulaifi {number}" for number in (1, 2)}}
NOT_PICTURES = {"mt_switch"}  # of speech
OPEN = {  # printed rows of systems that are not here
    "Alkhulaifi 1": {"Kurata and Audhkhasi (2018)", "Mun'im et al. (2019)"},
}


def jobs(*words, several=True, folders=()):
    """What a command line comes to."""
    register(folders)
    return overrides.check(presets.expanded(presets.without_plus(words), several), folders, several)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of one's own with an experiment of rows."""
    monkeypatch.setattr(registry, "_folders", [registry.shipped(), tmp_path])
    monkeypatch.chdir(tmp_path)
    presets.rows.cache_clear()
    (tmp_path / "experiment/sub").mkdir(parents=True)
    (tmp_path / "experiment/sub/mine.yaml").write_text(
        "# rows of my own\ndefaults:\n  - override /student: resnet14\nrecipe:\n  epochs: 3\nrows:\n"
        "  plain: method=kd\n  long: method=at recipe.epochs=9 student=resnet20\n"
        "  listed: method=dml scheme=online 'method.peers=[resnet8,cnn]'\n")
    yield tmp_path
    presets.rows.cache_clear()


def test_a_row_is_the_preset_with_what_it_says(own):
    found = jobs("+experiment=sub/mine")
    assert [(job.method, job.choices["student"], job.values["recipe"]["epochs"]) for job in found] == [
        ("kd", "resnet14", 3), ("at", "resnet20", 9), ("dml", "resnet14", 3)]
    assert found[2].values["method"]["peers"] == ["resnet8", "cnn"]
    assert "rows" not in found[0].values


def test_the_command_line_wins_over_a_row(own):
    (one,) = jobs("experiment=sub/mine/long", "recipe.epochs=5", several=False)
    assert one.values["recipe"]["epochs"] == 5


def test_a_row_is_the_same_run_as_its_words(own):
    (row,) = jobs("experiment=sub/mine/plain", several=False)
    (words,) = jobs("method=kd", "student=resnet14", "recipe.epochs=3", several=False)
    assert identity(row) == identity(words)


@pytest.mark.parametrize("word", ["experiment=sub/mine/plain", "+experiment=sub/mine/plain"])
def test_with_a_plus_and_without(own, word):
    assert [job.method for job in jobs(word, several=False)] == ["kd"]


def test_rows_times_seeds(own):
    assert [(job.method, job.seed) for job in jobs("+experiment=sub/mine", "seed=1,2")] == [
        ("kd", 1), ("kd", 2), ("at", 1), ("at", 2), ("dml", 1), ("dml", 2)]


def test_several_presets_and_single_rows(own):
    found = presets.expanded(["experiment=sub/mine,survey/gou_table_6_mini/fsp", "seed=1"], True)
    assert found == ["experiment=sub/mine/plain,sub/mine/long,sub/mine/listed,survey/gou_table_6_mini/fsp", "seed=1"]


@pytest.mark.parametrize(("words", "told"), [
    (["experiment=sub/mine"],
     "experiment=sub/mine has 3 rows; add -m to run them all, or name one, as experiment=sub/mine/plain"),
    (["+experiment=sub/min"], "unknown experiment 'sub/min'; did you mean 'sub/mine'?"),
    (["experiment=sub/mine/plan"], "unknown experiment 'sub/mine/plan'; did you mean 'sub/mine/plain'?"),
    (["experiment=gou_table_6_mini"], "unknown experiment 'gou_table_6_mini'; did you mean 'survey/gou_table_6_mini'?"),
])
def test_what_is_refused(own, capsys, words, told):
    assert main.main(words) == 2
    assert capsys.readouterr().err == f"kdrun: {told}\n"
    assert not (own / "outputs").exists()


def test_a_row_that_cannot_be_read(own):
    (own / "experiment/wrong.yaml").write_text("rows: {one: 'method kd'}\n")
    presets.rows.cache_clear()
    with pytest.raises(ConfigError, match="experiment=wrong/one: 'method' is not a setting"):
        register([])


def test_a_config_may_sweep_by_itself(own):
    (own / "experiment/sweeping.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      method: kd,at\n      seed: 1,2\n")
    found = jobs("+experiment=sweeping", folders=[own])
    assert [(job.method, job.seed) for job in found] == [("kd", 1), ("kd", 2), ("at", 1), ("at", 2)]
    found = jobs("+experiment=sweeping", "method=sp", folders=[own])
    assert [(job.method, job.seed) for job in found] == [("sp", 1), ("sp", 2)]


def test_what_a_config_sweeps_over_is_checked(own):
    (own / "experiment/sweeping.yaml").write_text("# @package _global_\nhydra: {sweeper: {params: {method: 'kd,att'}}}\n")
    with pytest.raises(ConfigError, match="unknown method 'att'"):
        jobs("+experiment=sweeping", folders=[own])


def test_they_are_listed(own):
    from rich.console import Console

    console = Console(width=160, force_terminal=False)
    with console.capture() as captured:
        console.print(TABLES["experiments"]())
    assert "rows of my own" in captured.get()
    assert "plain, long, listed" in captured.get()
    told = help_text(["+experiment=sub/mine"])
    assert "survey/gou_table_6_mini" in told
    assert "method=dml scheme=online" in told


@pytest.mark.slow
@pytest.mark.parametrize("preset", [*SURVEYS, *(f"{preset}_mini" for preset in SURVEYS)])
def test_every_row_of_the_surveys_presets_can_be_run(tmp_path, preset):
    found = jobs(f"+experiment={preset}", f"outputs={tmp_path}")
    assert len(found) == len(presets.rows(preset)) > 0
    assert len({identity(job) for job in found}) == len(found)


@pytest.mark.parametrize("table", SURVEYS)
def test_the_small_ones_have_every_method_of_the_table(table):
    claimed = {key for key in registry.options("method") if SURVEYS[table] in registry.method_card(key).survey_tables}
    assert set(presets.rows(f"{table}_mini")) == claimed


def composed(row):
    """What a row trains by, as results name it."""
    parts = [row[f"method/{slot}"] for slot in ("first", "second", "third") if f"method/{slot}" in row]
    return "+".join([row["method"], *parts])


def test_rows_that_the_papers_trained_otherwise(tmp_path):
    (rkd,) = jobs("experiment=survey/gou_table_6/rkd", f"outputs={tmp_path}", several=False)
    first, second = rkd.values["method"]["first"], rkd.values["method"]["second"]
    assert (first["distance_weight"], first["angle_weight"], first["normalised"]) == (25, 50, True)
    assert second["temperature"]**2 * second["kd_weight"] == 16  # the authors' weight of a divergence without the square
    (snapshot,) = jobs("experiment=survey/gou_table_6/snapshot_kd", f"outputs={tmp_path}", several=False)
    recipe = Recipe(**snapshot.values["recipe"])
    assert (recipe.schedule, recipe.parts(snapshot.values["method"]["cycles"])) == ("cosine", [75] * 4)


@pytest.mark.parametrize(("name", "drops", "decay", "nesterov"), [("one", (151, 225), 1e-4, False),
                                                                 ("okddip", (150, 225), 5e-4, True)])
def test_recipes_of_networks_with_branches(tmp_path, name, drops, decay, nesterov):
    (job,) = jobs("method=one", f"recipe={name}", f"outputs={tmp_path}", several=False)
    recipe = Recipe(**job.values["recipe"])
    rates = [recipe.rate(epoch, recipe.epochs) for epoch in range(300)]
    assert tuple(epoch for epoch in range(1, 300) if rates[epoch] != rates[epoch - 1]) == drops
    assert (recipe.epochs, recipe.weight_decay, recipe.nesterov) == (300, decay, nesterov)


def test_standardised_decoupled_distillation_is_as_its_script_runs_it(tmp_path):
    (job,) = jobs("method=logit_std", "method/base=standardised_dkd", f"outputs={tmp_path}", several=False)
    base, usual = job.values["method"]["base"], registry.load("method", "dkd")
    assert (base["alpha"], base["beta"]) == (9 * usual["alpha"], 9 * 9 * usual["alpha"])
    assert base["temperature"] == usual["temperature"]


@pytest.mark.parametrize("table", published.FILES)
def test_a_printed_row_has_a_method_or_is_known_to_have_none(table):
    assert {row.name for row in published.rows(table) if not row.methods} == OPEN.get(table, set())


@pytest.mark.parametrize("table", ["survey/gou_table_1", "survey/gou_table_2", "survey/gou_table_3", "survey/gou_table_4"])
def test_the_large_ones_without_figures_have_every_method_of_the_table(table):
    claimed = {key for key in registry.options("method") if SURVEYS[table] in registry.method_card(key).survey_tables}
    assert {words.split()[0].removeprefix("method=") for words in presets.rows(table).values()} == claimed


@pytest.mark.parametrize("table", ["survey/gou_table_5", "survey/gou_table_6"])
def test_the_large_ones_have_every_printed_row_that_has_a_method(table):
    """A row of the survey whose method there is needs a row in conf/experiment/TABLE.yaml, with its networks."""
    rows = [dict(presets.settings(table, name, words)) for name, words in presets.rows(table).items()]
    for printed in published.rows(SURVEYS[table]):
        cells = printed.cells
        if printed.methods:
            wanted = {role: printed_networks()[cells[role]].choice for role in ("teacher", "student") if cells[role]}
            about = {printed.composition} if printed.composition else {*printed.methods}
            fitting = [row for row in rows if composed(row) in about and wanted.items() <= row.items()]
            assert len(fitting) == 1, (printed.name, cells)


@pytest.mark.parametrize("table", ["survey/alkhulaifi_1", "survey/alkhulaifi_2"])
def test_the_large_ones_have_every_method_of_pictures(table):
    claimed = {key for key in registry.options("method") if SURVEYS[table] in registry.method_card(key).survey_tables}
    assert {words.split()[0].removeprefix("method=") for words in presets.rows(table).values()} == claimed - NOT_PICTURES

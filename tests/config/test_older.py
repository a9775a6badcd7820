from kdrun.config.older import upgraded
from tests.toy import settings_of


def test_settings_of_before_are_those_of_now():
    now = settings_of("method=rkd", "dataset=cifar100", "scheme=self").values
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in now.items()}
    before["scheme"]["_target_"] = "kdrun.schemes.SelfTaught"
    before["launch"]["_target_"] = "kdrun.launchers.sweep.Local"
    for group, key in (("recipe", "ema"), ("recipe", "mixup"), ("dataset", "workers"), ("dataset", "augment")):
        del before[group][key]
    found = upgraded(before)
    assert found["scheme"] == now["scheme"]
    assert found["recipe"] == now["recipe"]
    assert found["dataset"] == now["dataset"]
    assert found["launch"]["_target_"].startswith("kdrun.sweeps.launchers.")


def test_a_setting_may_have_another_name_by_now():
    process = "kdrun.models.gaussian.GaussianProcess"
    assert upgraded({"teacher": {"_target_": process, "length": 2.0}})["teacher"] == {"_target_": process, "length_scale": 2.0}


def test_what_was_set_stays_and_what_is_no_group_too():
    assert upgraded({"recipe": {"ema": 0.9}})["recipe"]["ema"] == 0.9
    assert upgraded({"recipe": 3, "dataset": None, "scheme": ["x"]}) == {"recipe": 3, "dataset": None, "scheme": ["x"]}
    assert upgraded("nothing") == "nothing"

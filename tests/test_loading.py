"""What leaves a run: networks that can be built again from their files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import kdrun
from kdrun.methods.cross_modal.hallucination import TwoStreams
from kdrun.methods.online.one import Ensemble, Gate
from kdrun.methods.staged.ban import Ensemble as Generations
from kdrun.models.description import Description, describe
from kdrun.models.quantization import with_clipped_inputs
from tests.toy import prepared, state, toy_experiment


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading")
    toy_experiment("kd", folder)
    return folder


@pytest.fixture(scope="module")
def run(outputs):
    return next(folder for folder in (outputs / "runs").iterdir() if (folder / "run.json").exists())


def test_a_students_file_is_all_that_is_needed(run, tmp_path):
    (tmp_path / "alone.safetensors").write_bytes((run / "student.safetensors").read_bytes())
    loaded = kdrun.load(tmp_path / "alone.safetensors")
    data = prepared(("kd",)).data
    assert not loaded.network.training
    assert loaded.classes == data.classes
    assert (loaded.description.role, loaded.description.task) == ("student", "classification")
    images, labels = data.test.inputs, data.test.labels
    seen = loaded.preprocess(images)
    assert torch.equal(seen, data.normalise(images))
    accuracy = float((loaded.network(seen).logits.argmax(1) == labels).double().mean())
    told = json.loads((run / "run.json").read_text())
    (row,) = [row for row in told["rows"] if row["role"] == "student"]
    assert accuracy == pytest.approx(row["accuracy"])
    assert told["networks"]["student.safetensors"]["classes"] == list(data.classes)
    with pytest.raises(ValueError, match="expected"):
        loaded.preprocess(images[:, :-1])


def test_a_runs_folder_and_the_stores_entries_can_be_loaded(run, outputs):
    assert state(kdrun.load(run).network).keys() == load_file(run / "student.safetensors").keys()
    entries = sorted(path.parent for path in (outputs / "store").glob("*/entry.json"))
    assert {kdrun.load(entry).description.role for entry in entries} == {"teacher", "baseline"}


def test_a_file_without_description_is_read_by_its_run_or_refused(run, tmp_path):
    plain = tmp_path / "run"
    plain.mkdir()
    save_file(load_file(run / "student.safetensors"), plain / "student.safetensors")  # as earlier versions wrote them
    with pytest.raises(ValueError, match=r"does not say how its network is built .* no .*run\.json"):
        kdrun.load(plain / "student.safetensors")
    told = json.loads((run / "run.json").read_text())
    (plain / "run.json").write_text(json.dumps(told))
    whole, again = kdrun.load(run), kdrun.load(plain)
    assert again.description == whole.description
    told["settings"]["student"]["_target_"] = "os.system"
    (plain / "run.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"settings name os\.system"):
        kdrun.load(plain)


def test_other_peoples_code_needs_trust(run, tmp_path):
    tensors = load_file(run / "student.safetensors")
    description = kdrun.load(run).description
    foreign = Description(**{**vars(description), "node": {"_target_": "os.system", "command": "true"}})
    save_file(tensors, tmp_path / "foreign.safetensors", foreign.metadata)
    with pytest.raises(ValueError, match=r"names os\.system.*trust=True"):
        kdrun.load(tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="neither a torch"):
        kdrun.load(tmp_path / "foreign.safetensors", trust=True)
    save_file(tensors, tmp_path / "odd.safetensors", {"kdrun": "[1]"})
    with pytest.raises(ValueError, match="not what kdrun writes"):
        kdrun.load(tmp_path / "odd.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((run / "student.safetensors").read_bytes()[:200])
    with pytest.raises(ValueError, match="no whole file of weights"):
        kdrun.load(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="there is no file"):
        kdrun.load(tmp_path / "none.safetensors")


def test_networks_that_methods_make_of_several_describe_themselves():
    toy = prepared(("kd",))
    factory, data = toy.factory(rehearsal=True), toy.data
    student, peer = factory.student(), factory.peers(1)[0]
    branch = student.fork(1, "branch 2")
    trunk = student.shapes.stages[0]
    several = [TwoStreams(student, peer), Generations([peer, student]), Ensemble(student, [branch], Gate(trunk[0], 2), 1),
               with_clipped_inputs(factory.student().network, bits=4, ends=False)]
    inputs = torch.rand(3, *data.shape)
    for network in several:
        description = describe(network, data, "student", "several")
        twin = Description.read(description.metadata).build()
        twin.load_state_dict(network.state_dict())
        answers = [one.eval()(inputs).logits for one in (twin, network)]  # equal but for the layout in memory
        assert torch.allclose(*answers, atol=1e-6), type(network).__name__
    assert describe(torch.nn.Linear(2, 2), data, "student", "unknown") is None

"""Wrong command lines and files: each is refused before anything is trained, in clear lines, and nothing is written."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kdrun.cli import main
from kdrun.config import registry
from kdrun.models.resnet import ResNet

SMOKE = ["recipe=smoke", "threads=1"]


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


CODE = '''
import torch
from torch import nn
from kdrun.data.samples import Samples, Source

X, Y = torch.rand(20, 8, 8, 1), torch.arange(20) % 2

def source(images, labels):
    return Source(Samples(images, labels), Samples(images, labels), ("a", "b"))

def nan():
    images = X.clone()
    images[3] = float("nan")
    return source(images, Y)

def flat():
    return source(X.flatten(1), Y)

def double():
    return source(X.double(), Y)

def labels():
    return source(X, Y + 5)

def few():
    return source(X, Y[:7])

def raises():
    raise ValueError("the archive is of 1998")

def missing():
    open("/nowhere/x")

class Net(nn.Module):
    def __init__(self, *, classes: int):
        super().__init__()
        raise ValueError("no such luck")
'''

COMMON = "validation: 0.1\nsplit_seed: 0\ntrain_limit: null\ncrop: 0\nflip: false\nmean: null\nstd: null\n"


def network(depth=8, classes=10):
    return ResNet(depth=depth, stem=16, widths=[16, 32, 64], classes=classes, channels=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Wrong files of every kind, and where they lie."""
    top = tmp_path_factory.mktemp("files")
    weights = network().state_dict()
    torch.save(weights, top / "good.pt")
    save_file(weights, top / "good.safetensors")
    for ending in ("pt", "safetensors"):
        whole = (top / f"good.{ending}").read_bytes()
        (top / f"half.{ending}").write_bytes(whole[:len(whole) // 2])
    (top / "text.pt").write_text("hello world" * 100)
    (top / "empty.pt").touch()
    torch.save(network(depth=14).state_dict(), top / "other.pt")
    torch.save(network(classes=7).state_dict(), top / "seven.pt")
    torch.save({**weights, "head.bias": torch.full((10,), float("nan"))}, top / "nan.pt")
    torch.save(network(), top / "whole.pt")
    torch.save([1, 2], top / "list.pt")
    torch.save({1: torch.zeros(2)}, top / "numbers.pt")
    torch.save({"weights": Evil(top / "executed")}, top / "evil.pt")
    (top / "evil.pkl").write_bytes(pickle.dumps(Evil(top / "executed")))

    draws = np.random.default_rng(0)

    def picture(*parts, height=8):
        path = top.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 255, (height, 8, 3), dtype=np.uint8)).save(path)

    for number in range(4):
        for name in "ab":
            for folder in ("good", "corrupt", "hole"):
                picture(folder, name, f"{number}.png")
            picture("sizes", name, f"{number}.png", height=8 + number)
            picture("unequal", "train", name, f"{number}.png")
        for name in "abc":
            picture("unequal", "test", name, f"{number}.png")
        picture("one", "a", f"{number}.png")
        picture("flat", f"{number}.png")
    for name in ("nothing", "hole/c", "bare/a", "bare/b"):
        (top / name).mkdir(parents=True)
    (top / "corrupt/a/8.png").write_text("not a picture")
    (top / "corrupt/b/9.png").write_bytes((top / "good/a/0.png").read_bytes()[:90])
    (top / "file").touch()

    own = top / "own"
    for group in ("dataset", "model", "method", "recipe"):
        (own / group).mkdir(parents=True)
    (own / "wrong_things.py").write_text(CODE)
    (own / "unparsable_things.py").write_text("def broken(:\n")
    for name in ("nan", "flat", "double", "labels", "few", "raises", "missing"):
        (own / f"dataset/own_{name}.yaml").write_text(f"_target_: wrong_things.{name}\nname: own_{name}\n{COMMON}")
    for name, target in {"module": "no_such_module.Net", "class": "wrong_things.Nett", "syntax": "unparsable_things.Net",
                         "fails": "wrong_things.Net", "dotless": "Net"}.items():
        (own / f"model/own_{name}.yaml").write_text(f"_target_: {target}\nname: own_{name}\n")
    (own / "model/own_targetless.yaml").write_text("name: own_targetless\n")
    (own / "method/own_network.yaml").write_text("_target_: wrong_things.Net\n")
    (own / "recipe/own_recipe.yaml").write_text("defaults: [standard, _self_]\nepochs: many\nlearning_rate: 3\n")
    (own / "recipe/own_list.yaml").write_text("- 1\n- 2\n")
    (own / "recipe/own_orphan.yaml").write_text("defaults: [no_parent, _self_]\n")
    broken = top / "broken/recipe"
    broken.mkdir(parents=True)
    (broken / "odd.yaml").write_text("name: [1,\n  b: {")
    return top


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd, files):
    """Run kdrun on words that it must refuse, and return the lines that it told."""
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDRUN_DATA", raising=False)
    paths = [path for path in files.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"]

    def run(words):
        words = [word.replace("FILES", str(files)) for word in words]
        status = main.main(words)
        out, err = capfd.readouterr()
        lines = err.splitlines()
        assert status == 2, err
        assert "Traceback" not in out + err
        assert lines
        assert all(line.startswith("kdrun: ") for line in lines), err
        assert list(tmp_path.iterdir()) == []  # no folder of a run that never began, which would count as unfinished
        assert [path for path in paths if not path.exists()] == []
        assert not (files / "executed").exists(), "code of a checkpoint was run"
        return lines

    return run


WRONG = {
    # choices
    "method": (["method=fitnet"], ["unknown method 'fitnet'; did you mean 'fitnets'?"]),
    "method, case": (["method=KD"], ["unknown method 'KD'", "kd"]),
    "method, empty": (["method="], ["unknown method ''; there is"]),
    "method, null": (["method=null"], ["unknown method 'null'; there is"]),
    "method, number": (["method=3"], ["unknown method '3'; there is"]),
    "method, taken away": (["~method"], ["method", "method=NAME"]),
    "dataset": (["dataset=cifar11"], ["unknown dataset 'cifar11'; did you mean 'cifar10'?"]),
    "dataset, two": (["dataset=[digits,mnist]"], ["dataset: got ['digits', 'mnist'], wanted one dataset"]),
    "dataset, added": (["+dataset=digits"], ["dataset appears more than once"]),
    "teacher": (["teacher=wrn_61_2"], ["unknown teacher 'wrn_61_2'; did you mean 'wrn_16_2'?"]),
    "teacher, none": (["teacher=none"], ["unknown teacher 'none'; there is", "resnet20"]),
    "teachers": (["teachers=[resnet20,resnt8]"], ["teachers", "resnt8", "did you mean 'resnet8'?"]),
    "student": (["student=resnt8"], ["unknown student 'resnt8'; did you mean 'resnet8'?"]),
    "scheme": (["scheme=offlin"], ["unknown scheme 'offlin'; did you mean 'offline'?"]),
    "recipe": (["recipe=smok"], ["unknown recipe 'smok'; did you mean 'smoke'?"]),
    "launch": (["launch=locally"], ["unknown launch 'locally'; did you mean 'local'?"]),
    "experiment": (["experiment=nonsense"], ["unknown experiment 'nonsense'; there is"]),
    # keys
    "key": (["sede=2"], ["unknown key 'sede'; did you mean 'seed'?"]),
    "key without its group": (["temperature=2"], ["unknown key 'temperature'; did you mean 'method.temperature'?"]),
    "key without its group, misspelt": (["temperatur=2"], ["unknown key 'temperatur'; did you mean 'method.temperature'?"]),
    "key in method": (["method.temperatur=2"], ["unknown key 'temperatur' in method; did you mean 'temperature'?"]),
    "key in base": (["method=takd", "method.base.temperatur=2"], ["unknown key 'temperatur' in method.base; did you mean"]),
    "key in dataset": (["dataset.validatoin=0.2"], ["unknown key 'validatoin' in dataset; did you mean 'validation'?"]),
    "key in teacher": (["teacher.widht=2"], ["unknown key 'widht' in teacher; did you mean 'width'?"]),
    "key in student": (["student.dept=8"], ["unknown key 'dept' in student; did you mean 'depth'?"]),
    "key in recipe": (["recipe.epoch=3"], ["unknown key 'epoch' in recipe; did you mean 'epochs'?"]),
    "key in scheme": (["scheme.x=3"], ["unknown key 'x' in scheme; it has no settings"]),
    "key in measures": (["measures.alfa=0.3"], ["unknown key 'alfa' in measures; did you mean 'alpha'?"]),
    "key in speed": (["speed.memory=true"], ["unknown key 'memory' in speed; did you mean 'keep_memory'?"]),
    "settings of speed": (["speed.memory_format=nhwc", "speed.compile=2"],
                          ["speed.memory_format: got 'nhwc', wanted one of auto, channels_last, contiguous",
                           "speed.compile: got 2, wanted true or false"]),
    "key, no hint": (["method.zzz=3"], ["unknown key 'zzz' in method; it has temperature, ce_weight, kd_weight, form"]),
    "key added": (["+method.temperatur=2"], ["unknown key 'temperatur' in method; did you mean 'temperature'?"]),
    "key forced": (["++recipe.lrr=2"], ["unknown key 'lrr' in recipe; did you mean 'lr'?"]),
    "key added at the top": (["+temperatur=2"], ["unknown key 'temperatur'; did you mean 'method.temperature'?"]),
    "key taken away": (["~method.temperature"], ["method.temperature is not set"]),
    "seed taken away": (["~seed"], ["seed is not set"]),
    "group taken away": (["~recipe"], ["recipe: got null, wanted a group of settings"]),
    "group misspelt": (["methd.temperature=3"], ["unknown key 'methd'; did you mean 'method'?"]),
    "a number as a group": (["seed.x=3"], ["unknown key 'seed.x': seed is not a group of settings"]),
    "dataset's key in a curriculum": (["method=takd", "method.temperature=3"], ["unknown key 'temperature' in method"]),
    "student.checkpoint": (["student.checkpoint=x.pt"], ["student.checkpoint: there is no file"]),
    # types
    "text for a number": (["method.temperature=hot"], ["method.temperature: got 'hot', wanted a number"]),
    "true for a number": (["method.temperature=true"], ["method.temperature: got true, wanted a number"]),
    "not a number": (["method.temperature=nan"], ["method.temperature: got nan, wanted"]),
    "no epochs": (["recipe.epochs=null"], ["recipe.epochs: got null, wanted a whole number"]),
    "base": (["method=takd", "method.base=kd"], ["method.base: got 'kd'", "method/base=NAME"]),
    "outputs, number": (["outputs=3"], ["outputs: got 3, wanted a text"]),
    "outputs, empty": (["outputs="], ["outputs: got '', wanted a folder"]),
    "types at once": (["method.temperature=[1]", "recipe.epochs=2.5", "recipe.lr=inf", "seed=abc", "rerun=maybe",
                       "threads=many", "student.widths=16", "measures=3", "dataset.mean=0.5"],
                      ["method.temperature: got [1], wanted a number", "recipe.epochs: got 2.5, wanted a whole number",
                       "recipe.lr: got inf, wanted", "seed: got 'abc', wanted a whole number",
                       "student.widths: got 16, wanted a list",
                       "rerun: got 'maybe', wanted true or false", "threads: got 'many', wanted a whole number",
                       "measures: got 3, wanted a group", "dataset.mean: got 0.5, wanted a list"]),
    # ranges
    "ranges at once": (["seed=-1", "method.temperature=-1", "recipe.lr=0", "recipe.epochs=0", "recipe.batch_size=1",
                        "recipe.momentum=1", "recipe.milestones=[0.5,2]", "measures.alpha=1.5", "dataset.validation=1",
                        "dataset.test=0", "dataset.crop=-1", "dataset.train_limit=0", "student.widths=[0,0,0]", "threads=0",
                        "checkpoint_seconds=0"],
                       ["seed: got -1, wanted a whole number at least 0", "method.temperature: got -1, wanted a number above 0",
                        "recipe.lr: got 0, wanted a number above 0", "recipe.epochs: got 0, wanted a whole number at least 1",
                        "recipe.batch_size: got 1, wanted a whole number at least 2",
                        "recipe.momentum: got 1, wanted a number at least 0 and below 1",
                        "recipe.milestones: got [0.5, 2], wanted a list, each a number",
                        "measures.alpha: got 1.5, wanted a number at least 0 and at most 1",
                        "dataset.validation: got 1, wanted a number at least 0 and below 1",
                        "dataset.test: got 0, wanted a number above 0 and below 1",
                        "dataset.crop: got -1, wanted a whole number at least 0",
                        "dataset.train_limit: got 0, wanted a whole number at least 1",
                        "student.widths: got [0, 0, 0], wanted a list, each a whole number",
                        "threads: got 0, wanted a whole number at least 1 or null",
                        "checkpoint_seconds: got 0, wanted a number above 0"]),
    "sizes at once": (["method=dml", "method.peers=100000", "student.depth=1000000", "recipe.epochs=9223372036854775807",
                       "recipe.init_epochs=1000001", "recipe.lr=1e308", "recipe.weight_decay=1e-320", "dataset.split_seed=1e99",
                       "seed=9223372036854775808"],
                      ["method.peers: got 100000, wanted a whole number at least 1 and at most 100 or a list",
                       "student.depth: got 1000000, wanted a whole number at least 1 and at most 10,000",
                       "recipe.epochs: got 9223372036854775807, wanted a whole number at least 1 and at most 1,000,000",
                       "recipe.init_epochs: got 1000001, wanted a whole number at least 0 and at most 1,000,000",
                       "recipe.lr: got 1e+308, wanted a number that float32 holds: from 1.2e-38 to 3.4e+38 in size",
                       "recipe.weight_decay: got 1e-320, wanted a number that float32", "dataset.split_seed: got 1e+99, wanted",
                       "seed: got 9223372036854775808, wanted a whole number of at most 63 bits"]),
    "crop": (["dataset.crop=1000000000"], ["crop is 1000000000, but the pictures have 8x8 pixels; wanted at most 8"]),
    "too wide together": (["student.widths=[1000000,1000000,1000000]"], ["student resnet8: it", "GB", "free"]),
    "temperature 0": (["method.temperature=0"], ["method.temperature: got 0, wanted a number above 0"]),
    "base's temperature": (["method=takd", "method.base.temperature=-1"], ["method.base.temperature: got -1, wanted"]),
    "test 1": (["dataset.test=1"], ["dataset.test: got 1, wanted a number above 0 and below 1"]),
    # choices of a setting
    "choices at once": (["method.form=hinton", "measures.size_unit=kilo", "recipe.optimizer=adam", "recipe.schedule=cos",
                         "precision=fp16"],
                        ["method.form: got 'hinton', wanted one of zhu, gou",
                         "measures.size_unit: got 'kilo', wanted one of parameters, bytes, bits",
                         "recipe.optimizer: got 'adam', wanted one of sgd, adamw",
                         "recipe.schedule: got 'cos', wanted one of multistep, cosine, constant",
                         "precision: got 'fp16', wanted one of fp32, bf16"]),
    "reader": (["dataset=cifar10", "dataset.reader=CIFAR11"], ["dataset.reader: got 'CIFAR11', wanted one of", "CIFAR10"]),
    "device": (["device=tpu"], ["device: got 'tpu', wanted auto, cpu or cuda"]),
    "device that cannot train": (["device=meta"], ["device: got 'meta', wanted auto, cpu or cuda"]),
    "device that is not there": (["device=cuda:99"], ["device: got 'cuda:99', but torch sees"]),
    # what does not go together
    "takd online": (["method=takd", "scheme=online"], ["method=takd does not run under scheme=online; it runs under offline"]),
    "ban online": (["method=ban", "scheme=online"], ["method=ban does not run under scheme=online; it runs under self"]),
    "curriculum on curriculum": (["method=takd", "method/base=ban"], ["method/base=ban is a curriculum itself"]),
    "base without a curriculum": (["method=kd", "method/base=at"], ["method/base=at: method=kd has no base", "takd"]),
    "base, unknown": (["method=takd", "method/base=ta"], ["unknown method/base 'ta'; did you mean"]),
    "assistant": (["method=takd", "method.assistants=[resnt14]"],
                  ["method.assistants: got ['resnt14'], wanted a list, each the name", "did you mean 'resnet14'?"]),
    "several teachers of one": (["method=kd", "teachers=[resnet20,resnet14]"], ["teachers", "method=kd", "one teacher"]),
    "stages": (["method=at", "teacher=vgg8"], ["method=at", "the student has 3 and the teacher 5"]),
    "hint stage": (["method=fitnets", "method.hint_stage=9"], ["method.hint_stage is 9, but the teacher has 3 stages"]),
    "hint from a smaller map": (["method=fitnets", "method.hint_stage=1", "method.guided_stage=3"],
                                ["method=fitnets", "method.hint_stage"]),
    "depth": (["student.depth=9"], ["student resnet8: depth must be 6n+2", "got 9"]),
    "depths": (["student.depth=9", "teacher.depth=9"], ["student resnet8: depth", "teacher wrn_16_2: depth must be 6n+4"]),
    "mean of 3 channels": (["dataset.mean=[0.1,0.2,0.3]"], ["mean has 3 numbers, but the pictures have 1 channel"]),
    "std of 0": (["dataset.std=[0]"], ["std must be above 0, got [0]"]),
    "train_limit": (["dataset.train_limit=5000"], ["train_limit is 5000, but there are only"]),
    # weights
    "weights, no file": (["teacher.checkpoint=/nowhere/t.pt"], ["teacher.checkpoint: there is no file /nowhere/t.pt"]),
    "weights, folder": (["teacher.checkpoint=FILES"], ["teacher.checkpoint:", "is a folder, wanted a file of weights"]),
    **{f"weights, {name}": (["teacher=resnet8", f"teacher.checkpoint=FILES/{name}"],
                            [f"teacher.checkpoint: FILES/{name}", *words])
       for name, words in {
           "text.pt": ["not a whole file of weights"], "empty.pt": ["not a whole file of weights"],
           "half.pt": ["not a whole file of weights"], "half.safetensors": ["not a whole file of weights"],
           "other.pt": ["does not fit resnet8", "unknown (first: "],
           "seven.pt": ["does not fit resnet8", "head.weight, [7, 64] instead of [10, 64]); checkpoint_head=new leaves that"],
           "nan.pt": ["holds NaN or infinity (first: head.bias)"],
           "whole.pt": ["holds Python objects (kdrun.models.resnet.ResNet)", "wanted a state dict"],
           "evil.pt": ["holds Python objects", "mkdir", "wanted a state dict"], "evil.pkl": ["wanted a state dict"],
           "list.pt": ["holds no state dict"], "numbers.pt": ["holds no state dict"]}.items()},
    "start, no file": (["student.checkpoint=/nowhere/t.pt"], ["student.checkpoint: there is no file /nowhere/t.pt"]),
    "start, other weights": (["student.checkpoint=FILES/other.pt"], ["student.checkpoint: FILES/other.pt does not fit"]),
    "head, value": (["student.checkpoint_head=old"], ["student.checkpoint_head: got 'old', wanted new"]),
    "head of nothing": (["teacher.checkpoint_head=new"], ["teacher.checkpoint_head: there is no teacher.checkpoint whose"]),
    # data
    "cifar10 nowhere": (["dataset=cifar10", "dataset.root=/nowhere"], ["CIFAR10 is not in /nowhere", "dataset.download=true"]),
    "svhn nowhere": (["dataset=svhn", "dataset.root=/nowhere"], ["SVHN is not in /nowhere", "dataset.root"]),
    "no root": (["dataset=image_folder"], ["dataset.root is not set; give dataset.root=..."]),
    "empty root": (["dataset=image_folder", "dataset.root="], ["dataset.root: got '', wanted a text that is not empty"]),
    **{f"pictures, {name}": (["dataset=image_folder", f"dataset.root=FILES/{name}", *more], ["dataset", *words])
       for name, (more, words) in {
           "absent": ([], ["there is no folder FILES/absent", "dataset.root"]),
           "file": ([], ["there is no folder FILES/file"]),
           "nothing": ([], ["FILES/nothing holds no sub-folder; wanted one for each class"]),
           "flat": ([], ["FILES/flat holds no sub-folder"]),
           "bare": ([], ["FILES/bare holds no picture (", ".png"]),
           "one": ([], ["1 class of pictures; a classifier needs at least two"]),
           "corrupt": ([], ["cannot read FILES/corrupt/a/8.png", "cannot read FILES/corrupt/b/9.png"]),
           "sizes": (["dataset.size=null"], ["1.png is 8x9, the first picture 8x8; set dataset.size"]),
           "hole": ([], ["no training picture of class c"]),
           "unequal": ([], ["has classes that train/ has not: c"]),
           "good": (["dataset.memory_gb=1e-7", "dataset.stream=false"],
                    ["take more than 1e-07 GB", "dataset.memory_gb"])}.items()},
    # the user's own
    **{f"own dataset, {name}": (["--config-dir", "FILES/own", f"dataset=own_{name}"], words) for name, words in {
        "nan": ["dataset: 1 of the 20 training pictures hold NaN", "dataset: 1 of the 20 test pictures hold NaN"],
        "flat": ["training pictures have the shape [20, 64]; wanted [N, height, width, channels]"],
        "double": ["pictures are torch.float64; wanted uint8 (0 to 255) or float32 (0 to 1)"],
        "labels": ["training labels run from 5 to 6; wanted 0 to 1"], "few": ["20 training pictures, but 7 labels"],
        "raises": ["dataset: the archive is of 1998"], "missing": ["dataset: ", "/nowhere/x"],
        "nann": ["unknown dataset 'own_nann'; did you mean 'own_nan'?"]}.items()},
    **{f"own network, {name}": (["--config-dir", "FILES/own", f"student=own_{name}"], words) for name, words in {
        "module": ["student._target_: cannot import no_such_module.Net (No module named 'no_such_module')"],
        "class": ["student._target_: cannot import wrong_things.Nett"],
        "syntax": ["student._target_: cannot import unparsable_things.Net (SyntaxError"],
        "fails": ["student own_fails: no such luck"], "dotless": ["student._target_: got 'Net', wanted MODULE.NAME"],
        "targetless": ["student._target_ is not set"]}.items()},
    "own method is a network": (["--config-dir", "FILES/own", "method=own_network"],
                                ["wrong_things.Net is not a kdrun.methods.base.Method"]),
    "own recipe": (["--config-dir", "FILES/own", "recipe=own_recipe"],
                   ["recipe.epochs: got 'many', wanted a whole number", "unknown key 'learning_rate' in recipe"]),
    "own recipe is a list": (["--config-dir", "FILES/own", "recipe=own_list"], ["recipe: got [1, 2], wanted a group"]),
    "own recipe's parent": (["--config-dir", "FILES/own", "recipe=own_orphan"], ["recipe/own_orphan", "recipe/no_parent"]),
    "own recipe is no YAML": (["--config-dir", "FILES/broken", "recipe=odd"], ["not YAML", "odd.yaml", "line 2"]),
    "no config folder": (["--config-dir", "/nowhere"], ["there is no config folder /nowhere"]),
    "no config folder, =": (["--config-dir=FILES/file"], ["there is no config folder FILES/file"]),
    "teacher's recipe, name": (["teacher.recipe=standrad"], ["teacher.recipe: unknown recipe 'standrad'; did you mean"]),
    "teacher's recipe, value": (["teacher.recipe={epochs: 0}"], ["teacher.recipe.epochs: got 0, wanted a whole number"]),
    "teacher's recipe, key": (["teacher.recipe={epoch: 5}"], ["unknown key 'epoch' in teacher.recipe; did you mean 'epochs'?"]),
    "teacher's recipe, kind": (["teacher.recipe=5"], ["teacher.recipe: got 5, wanted the name of a recipe"]),
    "teacher's recipe, online": (["scheme=online", "teacher.recipe=wrn"], ["teacher.recipe: the chosen scheme has no teacher"]),
    "teacher's recipe, own weights": (["teacher.recipe=wrn", "teacher.checkpoint=FILES/file"],
                                      ["teacher.recipe: the weights of teacher.checkpoint are trained already"]),
    # where to write
    "outputs in /proc": (["outputs=/proc/x"], ["outputs: cannot write to /proc"]),
    "outputs in a device": (["outputs=/dev/null/x"], ["outputs: cannot make /dev/null/x, /dev/null is not a folder"]),
    "outputs is a file": (["outputs=FILES/file"], ["outputs: cannot make FILES/file", "is not a folder"]),
    "a run's folder": (["hydra.run.dir=x"], ["hydra.run.dir is kdrun's own; set outputs=FOLDER"]),
    # the command line itself
    "values without -m": (["seed=1,2"], ["seed=1,2 names several values; add -m"]),
    "a comma in a path": (["dataset=cifar10", "dataset.root=/a,b"], ["add -m", "quote"]),
    "no value": (["seed=1", "method"], ["'method' is not a setting; a setting is KEY=VALUE"]),
    "no key": (["=kd"], ["'=kd' names no key; a setting is KEY=VALUE"]),
    "an open bracket": (["student.widths=[1,2"], ["cannot read 'student.widths=[1,2'"]),
    "an equals sign": (["dataset.root=a=b"], ["cannot read 'dataset.root=a=b'", "quote"]),
    "a bare comma": (["method=kd,"], ["cannot read 'method=kd,'"]),
    "option": (["--multirn"], ["unknown option '--multirn'; did you mean '--multirun'?"]),
    "option without value": (["method=kd", "--config-dir"], ["--config-dir", "expected one argument"]),
    "option of Hydra's": (["--config-name", "x"], ["--config-name", "--config-dir DIR"]),
    "what of the config": (["--cfg", "nonsense"], ["--cfg", "nonsense", "job"]),
    "sub-command": (["lst"], ["unknown sub-command 'lst'; did you mean 'list'?"]),
    "sub-command, a method": (["fitnets"], ["unknown sub-command 'fitnets'; did you mean method=fitnets?"]),
    "sub-command, a key": (["method.temperature"], ["unknown sub-command 'method.temperature'", "KEY=VALUE"]),
    "list": (["list", "nonsense"], ["'nonsense'", "methods"]),
    "missing value": (["method.temperature=???"], ["method.temperature is not set; give method.temperature=..."]),
    "interpolation": (["recipe.epochs=${nothing}"], ["recipe.epochs: ", "'nothing' not found"]),
    "interpolation of the environment": (["recipe.epochs=${oc.env:NO_SUCH}"], ["recipe.epochs: ", "NO_SUCH"]),
    "interpolation, unknown": (["recipe.epochs=${no:3}"], ["recipe.epochs: Unsupported interpolation type no"]),
    # several at once
    "all at once": (["method.form=hinton", "method.temperatur=3", "seed=abc", "recipe.lr=0", "teacher=resnt20", "sede=1",
                     "dataset.validation=2", "device=tpu", "recipe.epochs=${nothing}", "dataset.crop=???"],
                    ["method.form: got 'hinton'", "'temperatur' in method", "seed: got 'abc'", "recipe.lr: got 0", "'resnt20'",
                     "'sede'", "dataset.validation: got 2", "device: got 'tpu'", "recipe.epochs: ", "dataset.crop is not set"]),
    "words at once": (["b=[", "=c"], ["cannot read 'b=['", "'=c' names no key"]),
    # sweeps
    "sweep, choice": (["-m", "method=kd,att"], ["unknown method 'att'; did you mean 'at'? (job method=att)"]),
    "sweep, key": (["-m", "method=kd,at", "method.form=zhu"], ["unknown key 'form' in method; it has", "(job method=at)"]),
    "sweep, key of some": (["-m", "method=kd,at", "method.form=gou"],
                           ["(job method=at); method.kd.form=... sets it for kd alone"]),
    "sweep, method's own key": (["-m", "method=kd,at", "method.kd.form=hinton"],
                                ["method.form: got 'hinton'", "(job method=kd"]),
    "sweep, key of all": (["-m", "seed=1,2", "method.temperatur=3"], ["'temperatur' in method; did you mean 'temperature'?"]),
    "sweep, one seed": (["-m", "seed=1,-2"], ["seed: got -2, wanted a whole number at least 0 (job seed=-2)"]),
    "sweep, half of it": (["-m", "seed=1,2", "recipe.lr=0.1,0"], ["recipe.lr: got 0", "recipe.lr=0 and 1 more"]),
    "sweep, glob": (["-m", "method=glob(k*)", "seed=-1"], ["seed: got -1"]),
    "sweep, option in the middle": (["seed=1", "-m", "method=kd,att"], ["unknown method 'att'"]),
    "sweep's folder": (["-m", "hydra.sweep.dir=x"], ["hydra.sweep.dir is kdrun's own"]),
}
QUIET = ("lst", "fitnets", "list", "method.temperature", "--cfg", "--config-name", "--multirn")  # nothing may be added


SLOW = ("sweep", "own", "weights", "pictures")  # what `make quick` leaves out: sweeps, and what wrong files hold


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith(SLOW) else name
                                  for name in WRONG])
def test_wrong_input_is_refused_in_clear_lines(name, refused, files):
    words, wanted = WRONG[name]
    given = {word.partition("=")[0] for word in words}
    if words[0] not in QUIET and words[-1] != "--config-dir":
        words = [*words, *(word for word in SMOKE if word.partition("=")[0] not in given)]
    lines = refused(words)
    for part in wanted:
        assert any(part.replace("FILES", str(files)) in line for line in lines), "\n".join(lines)
    if "at once" in name:
        assert len(lines) == len(wanted)


def test_each_problem_is_told_once(refused):
    lines = refused(["-m", "method=kd,at", "seed=1,2", "recipe.lr=-1", *SMOKE])
    assert lines == ["kdrun: recipe.lr: got -1, wanted a number above 0"]


def test_a_gpu_where_there_is_none(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert refused(["device=cuda", *SMOKE]) == ["kdrun: device: got 'cuda', but torch sees no GPU here; use device=cpu"]

"""Trained networks, each trained once: named by everything that shaped it, checked when read, whole or not there."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kdrun.methods.base import Product
from kdrun.models.description import Description
from kdrun.models.output import FIELDS, ModelOutput
from kdrun.training.trained import TrainedNetwork
from kdrun.utils import distributed
from kdrun.utils.files import digest_of, held, remove, sweep_up, sync_folder, text_of, write_atomically
from kdrun.utils.names import file_name

__all__ = ["Store", ]


class Store:
    """A folder of trained networks.

    Args:
        root: the folder.
        note: told what happens, a line each.
    """

    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self.root, self.note = root, note

    def fetch(self, label: str, key: dict[str, Any], network: nn.Module, train: Callable[[Path], TrainedNetwork]
              ) -> TrainedNetwork:
        """What the key names: read if it is there, else trained now by `train`, which is given a folder for checkpoints.

        Several jobs may ask at once: one trains, the others wait. A damaged entry is trained again.

        Args:
            label: the start of the entry's name, for people.
            key: everything that the weights depend on.
            network: of the right form; takes the weights that are read.
            train: trains it.
        """
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        entry = self.root / file_name(label, digest[:12])
        unfinished = Path(f"{entry}.unfinished")
        distributed.wait()  # all see the same: nobody has begun to write
        if (made := self.read(entry, network)) is not None:
            shutil.rmtree(unfinished, ignore_errors=True)  # whoever trained it may have died before the last step
            return made
        self.root.mkdir(parents=True, exist_ok=True)
        lock = held(Path(f"{entry}.lock"), lambda: self.note(f"{label}: another job is training it, waiting"))
        with lock if distributed.first() else contextlib.nullcontext():
            distributed.wait()
            if (made := self.read(entry, network)) is not None:
                return made
            if distributed.first():
                if not unfinished.is_dir():
                    remove(unfinished)  # whatever else is called so
                    unfinished.mkdir()
                sweep_up(unfinished)
            distributed.wait()  # nobody reads checkpoints in a folder that is being made
            made = train(unfinished)
            made.entry = entry.name
            if distributed.first():
                self.write(entry, key, made)
                shutil.rmtree(unfinished, ignore_errors=True)
            distributed.wait()
            return made

    def write(self, entry: Path, key: dict[str, Any], made: TrainedNetwork) -> None:
        """Put a trained network in its place, in one step. Whoever calls this holds the entry's lock."""
        for left in self.root.glob(f"{entry.name}.part-*"):  # by one that was killed
            remove(left)
        part = Path(f"{entry}.part-{os.getpid()}")
        part.mkdir()
        save_weights(made.network, part / "weights.safetensors", made.description)
        save_tensors(flat(made.answers), part / "answers.safetensors")
        for number, state in enumerate(made.states):
            save_tensors({key: value.cpu().contiguous() for key, value in state.items()},
                         part / f"state-{number:02d}.safetensors")
        files = {path.name: digest_of(path) for path in sorted(part.iterdir())}
        told = {"key": key, "files": files, "role": made.role, "model": made.model, "epochs": made.epochs,
                "seconds": made.seconds, "measures": made.measures, "history": made.history,
                "description": asdict(made.description) if made.description else None,
                "made": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        told = json.loads(json.dumps(told, default=str))
        told["digest"] = digest_of_entry(told)
        write_atomically(part / "entry.json", lambda path: path.write_text(json.dumps(told, indent=1)))
        remove(entry)
        os.replace(part, entry)
        sync_folder(self.root)

    def read(self, entry: Path, network: nn.Module) -> TrainedNetwork | None:
        """A whole entry; None where there is none, or where it is damaged."""
        if not os.path.lexists(entry):
            return None
        try:
            told = checked(entry)
            answers = unflat(load_file(entry / "answers.safetensors"))
            states = [load_file(path) for path in sorted(entry.glob("state-*.safetensors"))
                      if path.name in told["files"]]
            history = [tuple(row) for row in told["history"]]
            made = TrainedNetwork(told["role"], told["model"], network, answers, told["epochs"], told["seconds"], history,
                                  states, "store", entry=entry.name)
            network.load_state_dict(load_file(entry / "weights.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.note(f"{entry.name} in the store is damaged ({reason}); training it again")
            return None
        return made


def flat(answers: ModelOutput) -> dict[str, Tensor]:
    """The tensors of an output by name; of further heads `heads.NAME`."""
    found: dict[str, Tensor] = {}
    for name in FIELDS:
        value = getattr(answers, name)
        if isinstance(value, dict):
            found |= {f"{name}.{own}": tensor.contiguous() for own, tensor in value.items()}
        elif isinstance(value, Tensor):
            found[name] = value.contiguous()
    return found


def unflat(tensors: dict[str, Tensor]) -> ModelOutput:
    """The output that `flat` took apart."""
    heads = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if "." in name}
    whole: dict[str, Any] = {name: tensor for name, tensor in tensors.items() if "." not in name}
    return ModelOutput(**whole, heads=heads)


def checked(entry: Path) -> dict[str, Any]:
    """What an entry's description says, whose files are all as they were written.

    Raises:
        OSError: one is not there.
        ValueError: one is not what was written.
        KeyError, TypeError, AttributeError: the description is none.
    """
    told = json.loads(text_of(entry / "entry.json"))
    if told.pop("digest") != digest_of_entry(told):
        raise ValueError("entry.json is not what was written")
    for name, digest in told["files"].items():
        if digest_of(entry / name) != digest:
            raise ValueError(f"{name} is not what was written")
    return told


def save_weights(network: nn.Module, path: Path, description: Description | None = None) -> None:
    """Write a network's weights and statistics as safetensors, with what is needed to build it again."""
    # clones: parts that branches of a network share are written once for each name they have
    state = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
             for key, value in network.state_dict().items()}
    save_tensors(state, path, description.metadata if description else None)


def save_product(product: Product, path: Path) -> None:
    """Write what a training made beside networks as safetensors, with what each tensor is in the file's metadata."""
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in product.tensors.items()}
    save_tensors(tensors, path, {"about": json.dumps(dict(product.about), sort_keys=True)})


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all; a full disk is an OSError that says so."""
    write_atomically(path, lambda part: part.write_bytes(save(tensors, metadata)))


def digest_of_entry(told: dict[str, Any]) -> str:
    """The SHA-256 of an entry's description."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def entries(root: Path) -> Iterable[Path]:
    """The finished entries of a store."""
    return sorted(path.parent for path in root.glob("*/entry.json") if ".part-" not in path.parent.name)

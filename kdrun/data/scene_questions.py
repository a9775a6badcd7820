"""A reader of questions about scenes of handwritten digits."""

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Count, Fraction, NonNegative
from kdrun.data.compose import Layout, Scenes, compose
from kdrun.data.samples import Samples, Source
from kdrun.data.scenes import NAMES, apart, pair
from kdrun.utils.seeding import generator

__all__ = ["ANSWERS", "FORMS", "WORDS", "scene_questions"]

PLACES = ("top left", "top right", "bottom left", "bottom right")
ANSWERS = ("yes", "no", "zero of it", "one of it", "two of it", *NAMES, "nothing", *PLACES)
YES, NO, ZERO, NOTHING, FIRST_DIGIT, FIRST_PLACE = 0, 1, 2, 15, 5, 16
FORMS = ("is there a", "how many", "what is left of", "where is")
WORDS = ("<pad>", *dict.fromkeys(word for form in FORMS for word in form.split()), *NAMES)
LENGTH = max(len(form.split()) for form in FORMS) + 1


def scene_questions(*, train: AtLeastOne, held_out: AtLeastOne, test: AtLeastOne, scenes_per_question: AtLeastOne,
                    canvas: AtLeastOne, digits_per_scene: list[AtLeastOne], side: list[AtLeastOne], overlap: Fraction,
                    clutter: Count, piece: AtLeastOne, noise: NonNegative, threshold: Fraction, seed: Count) -> Source:
    """Questions of four forms about real handwritten digits on larger canvases: nothing to download.

    "Is there a D": yes or no. "How many D": zero, one or two. "What is left of D": the nearest digit whose centre is further
    left, or nothing. "Where is D": a quarter of the scene. The last two are asked of digits that are there once. All forms are
    asked equally often, and within a form all answers are right equally often, so that a question alone tells nothing of its
    answer. The pictures of digits are split into training, validation and test set before scenes are made of them.

    Args:
        train: how many questions to train on.
        held_out: how many to watch and choose by.
        test: how many to test on.
        scenes_per_question: how many scenes are composed for each question that is asked; the more there are, the fewer
            questions are about one scene.
        canvas: as this and the others are for `kdrun.data.scenes.scenes`.
        digits_per_scene: likewise.
        side: likewise.
        overlap: likewise.
        clutter: likewise.
        piece: likewise.
        noise: likewise.
        threshold: likewise.
        seed: of the scenes and of the questions.

    Raises:
        ValueError: digits do not fit on the canvas, or there are too few questions to balance them.
    """
    layout = Layout(canvas=canvas, digits=pair("digits_per_scene", digits_per_scene), side=pair("side", side),
                    overlap=overlap, clutter=clutter, piece=piece, noise=noise, threshold=threshold)
    if side[1] > canvas or piece > side[0]:
        raise ValueError(f"side: digits of {side} pixels do not fit on a canvas of {canvas}, or pieces of {piece} cannot be "
                         "cut from them")
    parts = [asked(compose(*source, count * scenes_per_question, layout, generator("questions", name, seed)), name, count,
                   canvas, seed)
             for (name, source), count in zip(apart(seed).items(), (train, held_out, test), strict=True)]
    return Source(parts[0], parts[2], ANSWERS, validation=parts[1], task="question_answering",
                  info={"inputs": "questions", "vocabulary": len(WORDS), "length": LENGTH},
                  found=f"{len(parts[0])} questions to train on, {len(parts[1])} to choose by, {len(parts[2])} to test on, "
                        "about scenes of different digits")


def asked(made: Scenes, name: str, count: int, canvas: int, seed: int) -> Samples:
    """Scenes with questions, in an order that is drawn: `count` of them, or a few less so that they are balanced.

    Raises:
        ValueError: an answer is too seldom right.
    """
    found = questions_of(made, canvas)
    draws, kept = generator("questions", "asked", name, seed), []
    for form in range(len(FORMS)):
        own = found[found[:, 1] == form]
        right = answers_of(form)
        each = count // len(FORMS) // len(right)
        for answer in right:
            rows = own[own[:, 3] == answer]
            if not 0 < each <= len(rows):
                raise ValueError(f"{name}: {count} questions would be {each} of the form {FORMS[form]!r} whose answer is "
                                 f"{ANSWERS[answer]!r}, and the scenes have {len(rows)} of these; ask for at least "
                                 f"{len(FORMS) * 11} questions, and more scenes_per_question")
            kept.append(rows[torch.randperm(len(rows), generator=draws)[:each]])
    chosen = torch.cat(kept)
    chosen = chosen[torch.randperm(len(chosen), generator=draws)]
    scene, form_of, digit, answer_of = chosen.T
    return Samples(made.pictures[scene], answer_of.clone(), {"questions": TEXTS[form_of, digit], "form": form_of.clone()})


def answers_of(form: int) -> list[int]:
    """The answers that a form may have."""
    digits = range(FIRST_DIGIT, FIRST_DIGIT + len(NAMES))
    return [[YES, NO], [ZERO, ZERO + 1, ZERO + 2], [*digits, NOTHING], list(range(FIRST_PLACE, FIRST_PLACE + 4))][form]


def text(form: int, digit: int) -> list[int]:
    """The token ids of a question."""
    words = [WORDS.index(word) for word in [*FORMS[form].split(), NAMES[digit]]]
    return words + [0] * (LENGTH - len(words))


TEXTS = torch.tensor([[text(form, digit) for digit in range(len(NAMES))] for form in range(len(FORMS))])  # [4, 10, LENGTH]


def questions_of(made: Scenes, canvas: int) -> Tensor:
    """All questions that scenes answer: rows of scene, form, digit and answer."""
    centres = (made.boxes[..., :2] + made.boxes[..., 2:]) / 2  # [N, D, 2]
    rows = []
    for scene, (labels, places) in enumerate(zip(made.labels.tolist(), centres.tolist(), strict=True)):
        there = [(label, *place) for label, place in zip(labels, places, strict=True) if label >= 0]
        for digit in range(len(NAMES)):
            own = [place for place in there if place[0] == digit]
            rows.append((scene, 0, digit, YES if own else NO))
            if len(own) <= 2:
                rows.append((scene, 1, digit, ZERO + len(own)))
            if len(own) == 1:
                _, x, y = own[0]
                left = [place for place in there if place[1] < x]
                rows.append((scene, 2, digit, FIRST_DIGIT + max(left, key=lambda place: place[1])[0] if left else NOTHING))
                rows.append((scene, 3, digit, FIRST_PLACE + (x >= canvas / 2) + 2 * (y >= canvas / 2)))
    return torch.tensor(rows)

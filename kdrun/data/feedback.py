"""What users liked: generated, or read from files of MovieLens. Each user's last item is for the test.

A training sample is one user [N] and one item that the user liked [N, 1]. A validation or test sample is a user, the one
item that is held out, and in `known` [N, E] the items that are not to be ranked, -1 where there are no more: those the user
liked in training, for the test also the validation item.
"""

import io
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Filled, NonNegative, Positive
from kdrun.data.samples import Samples, Source
from kdrun.utils.seeding import generator

__all__ = ["implicit", "leave_one_out", "movielens"]

AtLeastTwo = Annotated[int, Bounds(least=2)]
AtLeastThree = Annotated[int, Bounds(least=3)]


class Split(NamedTuple):
    """Feedback of users, one of two items of each held out; see `leave_one_out`."""

    train: Samples
    validation: Samples
    test: Samples


def leave_one_out(users: Tensor, items: Tensor) -> Split:
    """Hold out each user's last two items; users with fewer than three stay in training with all they have.

    Args:
        users: [N] int64, ascending; the items of one user in their order in time.
        items: [N] int64, none twice for one user.
    """
    count = torch.bincount(users)
    end = count.cumsum(0)
    place = torch.arange(len(users)) - (end - count)[users]  # within the user's own
    remaining = count[users] - place
    several = count[users] > 2
    known = torch.full((len(count), int(count.max())), -1)
    known[users, place] = items
    testers = torch.nonzero(count > 2)[:, 0]

    def held_out(last: int) -> Samples:
        """The item so many places from the end, and all before it."""
        own = torch.where(torch.arange(known.shape[1]) < (count - last)[:, None], known, -1)
        return Samples(testers, known[testers, count[testers] - last][:, None], {"known": own[testers]})

    kept = ~several | (remaining > 2)
    return Split(Samples(users[kept], items[kept][:, None]), held_out(2), held_out(1))


def _source(split: Split, users: int, items: int, settings: dict[str, object], found: str = "") -> Source:
    """A data set of the ranking task; the settings are the task's own."""
    names = tuple(f"candidate {number}" for number in range(1, 1 + int(str(settings["candidates"]))))
    return Source(split.train, split.test, names, validation=split.validation, task="ranking", found=found,
                  info={"users": users, "items": items, **settings})


def implicit(*, users: AtLeastOne, items: AtLeastThree, factors: AtLeastOne, temperature: Positive, fewest: AtLeastThree,
             most: AtLeastThree, seed: Count, loss: Literal["bpr", "bce"], negatives: AtLeastOne,
             rows: Literal["none", "list", "pair"], candidates: AtLeastTwo, sampled: Count) -> Source:
    """Generated implicit feedback of low rank: no person liked anything here.

    A user u likes item i by s = u v + b, with `factors` coordinates u ~ N(0, 1/factors), v ~ N(0, 1) and popularity
    b ~ N(0, 1/4); what is liked is drawn from softmax(s / temperature) without replacement (the largest of s / temperature
    plus Gumbel noise), and put in an order that means nothing.

    Args:
        users: how many.
        items: how many.
        factors: the rank of the preferences, before popularity.
        temperature: of the draw; at a higher one less can be learned.
        fewest: items that a user likes, the two that are held out among them.
        most: likewise.
        seed: of the feedback.
        loss: this and the other arguments are the task's settings, see `kdrun.tasks.ranking.Ranking`.
        negatives: likewise.
        rows: likewise.
        candidates: likewise.
        sampled: likewise.

    Raises:
        ValueError: there are not so many items.
    """
    if not fewest <= most < items:
        raise ValueError(f"a user cannot like {fewest} to {most} of {items} items; wanted fewest <= most < items")
    draws = generator("implicit feedback", seed)
    user = torch.randn(users, factors, generator=draws) / factors**0.5
    scores = user @ torch.randn(items, factors, generator=draws).T + torch.randn(items, generator=draws) / 2
    uniform = torch.rand(users, items, generator=draws, dtype=torch.float64).clamp_min(1e-300)
    order = (scores / temperature - torch.log(-torch.log(uniform))).topk(most, dim=1).indices
    count = torch.randint(fewest, most + 1, (users, 1), generator=draws)
    liked = torch.arange(most) < count
    shuffled = torch.rand(users, most, generator=draws).masked_fill(~liked, 2).argsort(dim=1)  # the others stay last
    split = leave_one_out(torch.arange(users)[:, None].expand(users, most)[liked], order.gather(1, shuffled)[liked])
    return _source(split, users, items, {"loss": loss, "negatives": negatives, "rows": rows, "candidates": candidates,
                                         "sampled": sampled})


FILES = {"ratings.csv": ",", "ratings.dat": "::", "u.data": "\t"}
"""The names of the ratings in the releases of MovieLens, and what separates user, item, rating and time there."""


def movielens(*, root: Annotated[str, Filled()], liked: NonNegative, loss: Literal["bpr", "bce"], negatives: AtLeastOne,
              rows: Literal["none", "list", "pair"], candidates: AtLeastTwo, sampled: Count) -> Source:
    """Ratings in a folder as MovieLens has them (Harper and Konstan 2015): ratings.csv, ratings.dat or u.data; no download.

    A rating from `liked` on is a like, in the order of the timestamps. Items that nobody liked stay in the catalogue.

    Args:
        root: the folder.
        liked: the lowest rating that is a like.
        loss: this and the other arguments are the task's settings, see `kdrun.tasks.ranking.Ranking`.
        negatives: likewise.
        rows: likewise.
        candidates: likewise.
        sampled: likewise.

    Raises:
        ValueError: there is no such file, it cannot be read, or nobody likes three items.
    """
    import pandas as pd

    folder = Path(root)
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder.absolute()} has none of {', '.join(FILES)}; set dataset.root to the folder of a MovieLens "
                         "release that you have unpacked")
    columns = ["user", "item", "rating", "time"]
    try:
        text = path.read_text(encoding="utf-8").replace("::", "\t") if FILES[path.name] == "::" else None
        table = pd.read_csv(path if text is None else io.StringIO(text), sep="," if path.name == "ratings.csv" else "\t",
                            header=0 if path.name == "ratings.csv" else None, names=columns, usecols=range(4),
                            dtype={"user": "int64", "item": "int64", "rating": "float64", "time": "int64"})
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"cannot read {path.absolute()} ({str(error).splitlines()[0]}); wanted user, item, rating and "
                         "timestamp, all numbers") from error
    catalogue = table["item"].astype("category").cat
    table["item"] = catalogue.codes
    likes = table[table["rating"] >= liked].sort_values(["user", "time"], kind="stable")
    likes = likes.drop_duplicates(["user", "item"])
    if not len(likes) or int(likes["user"].value_counts().iloc[0]) < 3:
        raise ValueError(f"nobody in {path.absolute()} rates three items at {liked:g} or above; set dataset.liked")
    user = torch.from_numpy(likes["user"].astype("category").cat.codes.to_numpy().astype("int64"))
    split = leave_one_out(user, torch.from_numpy(likes["item"].to_numpy().astype("int64")))
    users, items = int(user.max()) + 1, len(catalogue.categories)
    return _source(split, users, items, {"loss": loss, "negatives": negatives, "rows": rows, "candidates": candidates,
                                         "sampled": sampled},
                   f"{path.absolute()}: {users} users like {len(likes)} of {items} items, {len(split.test)} users with three "
                   "or more are tested on their last")

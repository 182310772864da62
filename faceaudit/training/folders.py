"""Prepared folders: what each is called where there are several, and which crops are of which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, with those above it as far as folders share a name.

    Example:
        >>> names_of([Path("/data/fairface/crops"), Path("/data/utkface/crops"), Path("/mine")])
        ['fairface_crops', 'utkface_crops', 'mine']
    """
    places = [folder.resolve() for folder in folders]
    names = {place: place.name for place in places}
    for depth in range(2, 1 + max((len(place.parts) for place in places), default=0)):
        count = Counter(names.values())
        for place, name in names.items():
            if count[name] > 1:
                names[place] = "_".join(place.parts[1:][-depth:])
    return [names[place] for place in places]


def folders_of(files: Iterable[Path], folders: Sequence[Path]) -> list[int]:
    """Position of the folder that each crop is of; -1 where it is of none.

    ``prepare`` writes ``FOLDER/crops/NUMBER/NAME``; a crop elsewhere is of the inmost folder.
    """
    position = {folder: number for number, folder in enumerate(folders)}
    places = ([*file.parents[2:3], *file.parents] for file in files)
    return [next((position[one] for one in each if one in position), -1) for each in places]

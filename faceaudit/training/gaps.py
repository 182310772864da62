"""What labels cannot teach or calibrate: classes and tasks that a part of the split lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceaudit.training.objective import allowed_classes, faces_of
from faceaudit.training.recipe import Recipe
from faceaudit.training.splits import Split


@dataclass(frozen=True)
class Gaps:
    """Tasks of a training by what their labels lack; tasks are named as the network's outputs."""

    never_seen: dict[str, list[str]]
    """Task -> classes that no label of the training part may stand for."""
    not_calibrated: list[str]
    """Tasks of which no crop of the validation part has a label."""

    def facts(self) -> dict[str, Any]:
        """For a card; nothing where there are none."""
        return {name: value for name, value in vars(self).items() if value}

    def sentences(self) -> list[str]:
        """One for each task, as a user reads it."""
        return [
            *(
                f"No training crop is labeled {', '.join(classes)} ({name.replace('_', ' ')}): "
                "labels taught nothing of it."
                for name, classes in self.never_seen.items()
            ),
            *(
                f"No validation crop has a label of {name.replace('_', ' ')}: "
                "its probabilities are not calibrated."
                for name in self.not_calibrated
            ),
        ]


def find_gaps(recipe: Recipe, split: Split) -> Gaps:
    """What the labels of a split lack; of single years nothing is said."""
    never_seen, not_calibrated = {}, []
    validated = faces_of(split.validation.labels, recipe)
    for (name, task), output in zip(recipe.tasks.items(), recipe.outputs(), strict=True):
        if output.activation == "value":
            continue
        if not validated[name]:
            not_calibrated.append(output.name)
        seen = allowed_classes(split.training.labels, name, task).any(dim=0).tolist()
        missing = [one for one, there in zip(output.classes, seen, strict=True) if not there]
        if missing and not output.is_age:
            never_seen[output.name] = missing
    return Gaps(never_seen, not_calibrated)

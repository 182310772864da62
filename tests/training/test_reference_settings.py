"""The recipes of the references against what their notebooks say: one row of facts each."""

from __future__ import annotations

import math
from typing import Any

import pytest

from faceaudit.training.recipe_files import list_recipes, load_recipe

DJ_TASKS = {"age": ("dj5", 0.4), "gender": ("gender2", 0.2), "race": ("utkface5", 0.4)}
SABAT_TASKS = {"age": ("value", 2.0), "gender": ("gender2", 1.0), "race": ("utkface5", 1.5)}
DJ: dict[str, Any] = {
    "tasks": DJ_TASKS,
    "rate": 1e-4,
    "batch": 32,
    "size": 100,
    "epochs": 30,
    "clip": 1.0,
    "schedule": ("exponential", math.exp(-0.01), 20),
    "kind": "dense",
    "units": (128,),
    "dropout": 0.0,
    "frozen": "none",
    "weights": "imagenet",
    "patience": 0,
    "shares": (0.1, 0.1),
    "margin": 0.2,
}
BLOCK5 = {"frozen": "all_but_last_block"}
FROZEN = {"frozen": "trunk", "rate": 1e-3}
SABAT: dict[str, Any] = {
    "tasks": SABAT_TASKS,
    "rate": 1e-4,
    "batch": 64,
    "epochs": 100,
    "clip": 0.0,
    "kind": "conv",
    "frozen": "none",
    "weights": "imagenet",
    "patience": 0,
    "schedule": ("constant",),
    "dropout": 0.5,
    "units": (192, 128, 64),
    "size": 224,
    "margin": 0.0,
}
WANTED: dict[str, dict[str, Any]] = {
    "olcay_vgg16": {
        "backbone": "vgg16",
        "tasks": {"gender": ("gender2", 1.0), "race": ("utkface5", 1.0)},
        "rate": 1e-3,
        "batch": 64,
        "size": 48,
        "epochs": 3 * 200,  # one of the source's is of every picture in three variants
        "patience": 3 * 25,
        "clip": 0.0,
        "schedule": ("constant",),
        "kind": "dense",
        "units": (64,),
        "dropout": 0.5,
        "frozen": "none",
        "weights": "imagenet",
        "margin": 0.0,
    },
    "sabat_custom_cnn": SABAT
    | {
        "backbone": "custom_cnn",
        "weights": "none",
        "size": 198,
        "units": {"gender": (256,), "race": (1024,), "age": (256,)},
        "dropout": 0.4,
        "schedule": ("step", 0.1, 10),
    },
    "sabat_mobilenet_v2": SABAT | {"backbone": "mobilenet_v2", "schedule": ("step", 0.9, 5)},
    **{
        f"sabat_mobilenet_v3{again}": SABAT | {"backbone": "mobilenet_v3_large"}
        for again in ("", "_again")
    },
    **{
        f"sabat_efficientnet_{one}": SABAT
        | {
            "backbone": f"efficientnet_{one}",
            "size": 300,
            "batch": 32,
            "units": {"gender": (128,), "race": (256,), "age": (192,)},
            "dropout": 0.0,
        }
        for one in ("b1", "b3")
    },
    **{
        f"dj_stl_{task}_{part}": DJ
        | {
            "backbone": "vgg16",
            "tasks": {task: (DJ_TASKS[task][0], 1.0)},
            "clip": 0.0,
            "patience": 5,
            "schedule": ("constant",),
            "frozen": frozen,
        }
        for task in DJ_TASKS
        for part, frozen in (("block5", "all_but_last_block"), ("full", "none"))
    },
    **{
        f"dj_{name}_{row}": DJ | {"backbone": "vgg16", "weights": weights} | changes
        for name, weights in (("vgg16", "imagenet"), ("vggface", "vggface"))
        for row, changes in {
            "frozen": FROZEN,
            "block5": BLOCK5,
            "ge": BLOCK5 | {"kind": "ge"},
            "gm": BLOCK5 | {"kind": "gm"},
            "am": BLOCK5 | {"kind": "am"},
            "full": {},
        }.items()
    },
    **{
        f"dj_{backbone}_{row}": DJ | {"backbone": backbone} | changes
        for backbone in ("vgg19", "densenet121")
        for row, changes in {"frozen": FROZEN, "full": {}}.items()
    },
    "dj_resnet50_frozen": DJ | FROZEN | {"backbone": "resnet50", "batch": 16},
    "dj_resnet50_full": DJ | {"backbone": "resnet50", "batch": 16, "rate": 1e-5},
    **{
        f"dj_custom_cnn{kind and '_'}{kind}": DJ
        | {"backbone": "custom_cnn", "weights": "none", "kind": kind or "dense"}
        for kind in ("", "ge", "gm", "am")
    },
}
"""Recipe -> what its notebook says."""


def test_every_reference_has_its_facts_here() -> None:
    names = {name for name in list_recipes() if name.startswith("reference/")}
    assert {f"reference/{name}" for name in WANTED} == names


@pytest.mark.parametrize("name", WANTED)
def test_a_recipe_trains_as_its_source_did(name: str) -> None:
    recipe, wanted = load_recipe(f"reference/{name}"), dict(WANTED[name])
    kind, *numbers = wanted.pop("schedule")
    schedule = recipe.schedule
    own = {
        "step": (schedule.factor, schedule.every),
        "exponential": (schedule.factor, schedule.after),
    }
    assert schedule.kind == kind
    assert own.get(kind, ()) == pytest.approx(tuple(numbers), abs=1e-5)
    assert schedule.warmup == 0
    found = {
        "backbone": recipe.backbone,
        "tasks": {key: (task.scheme, task.weight) for key, task in recipe.tasks.items()},
        "rate": recipe.learning_rate,
        "batch": recipe.batch,
        "size": recipe.size,
        "epochs": recipe.epochs,
        "clip": recipe.clip_norm,
        "kind": recipe.heads.kind,
        "units": recipe.heads.units,
        "dropout": recipe.heads.dropout,
        "frozen": recipe.frozen,
        "weights": recipe.weights,
        "patience": recipe.selection.patience,
        "shares": (recipe.data.validation_share, recipe.data.test_share),
        "margin": recipe.margin,
    }
    assert {key: found[key] for key in wanted} == wanted
    assert (recipe.optimizer, recipe.align, recipe.trunk_learning_rate) == ("adam", "none", None)


@pytest.mark.parametrize("name", [name for name in WANTED if name.startswith("sabat")])
def test_seed_one_learns_ages_from_11_to_69_as_a_share_of_69(name: str) -> None:
    recipe = load_recipe(f"reference/{name}")
    assert (*recipe.data.ages, recipe.tasks["age"].scale) == (11, 69, 69)
    decays = 1e-5 if name == "sabat_mobilenet_v2" else 0.0
    assert recipe.weight_decay == decays

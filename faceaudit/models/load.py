"""Any model by what a user calls it: a bundle, or a function that makes a network."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from faceaudit.errors import MissingExtraError
from faceaudit.models.bundle import DEFAULT_BUNDLE, Bundle, load_bundle

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""What names a function that makes a network: ``package.module:factory``."""


def load_model(name: str | Path = DEFAULT_BUNDLE) -> Bundle:
    """A model's facts, checked.

    Args:
        name: The name of a bundle that ships, a bundle's folder, an ``.onnx`` file, or a function
            that returns a network and its facts, ``package.module:factory``.

    Raises:
        BundleError: If a file is missing or damaged, a fact is missing or impossible, or the
            function fails.
        UnknownNameError: If it is none of these.
        MissingExtraError: If a function is named and torch is not installed.
    """
    if isinstance(name, Path) or not FACTORY.fullmatch(name):
        return load_bundle(name)
    if find_spec("torch") is None:
        raise MissingExtraError(f"--model {name}", "torch")
    from faceaudit.models.factory import make_bundle

    return make_bundle(name)

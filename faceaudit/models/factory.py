"""Networks of the user's own code: ``package.module:factory`` returns one and its facts.

The function is imported and called as it stands: it is code that the user trusts. What it returns
is a ``torch.nn.Module`` and a mapping with the keys of a sidecar; ``sha256`` is taken over the
network's tensors, and that of the function's file is kept in the card.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from faceaudit.errors import BundleError
from faceaudit.models.bundle import Bundle, bundle_from_facts
from faceaudit.models.facts import LUMA, Input

if TYPE_CHECKING:
    import onnx

ONE_OUTPUT = "output"
"""What the only output of a network that returns a tensor is called."""


def make_bundle(name: str) -> Bundle:
    """The bundle that ``package.module:factory`` makes; the current folder can be imported from.

    Raises:
        BundleError: If it cannot be imported or called, or returns something else.
    """
    factory = find_factory(name)
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise BundleError(f"--model {name}: {raised(error)}") from error
    if not (isinstance(made, tuple) and len(made) == 2):
        raise BundleError(
            f"--model {name}: returned {_kind(made)}; return a torch.nn.Module and a dict of facts"
        )
    network, facts = made
    if not isinstance(network, nn.Module):
        raise BundleError(f"--model {name}: returned {_kind(network)} first, no torch.nn.Module")
    if not isinstance(facts, Mapping):
        raise BundleError(f"--model {name}: returned {_kind(facts)} second, no dict of facts")
    found = hash_of_network(network, name)
    if facts.get("sha256", found) != found:
        raise BundleError(
            f"--model {name}: the sha256 of its tensors is {found}, its facts say "
            f"{facts['sha256']}; load the weights that belong to it, or leave the key out"
        )
    code = {"factory": name, "code_sha256": _hash_of_code(factory)}
    try:
        json.dumps({**facts}, allow_nan=False)
        return bundle_from_facts(
            {**facts, "sha256": found, **code}, Path(name), network.eval().float()
        )
    except (ValueError, TypeError) as error:
        raise BundleError(f"--model {name}: its facts: {error}") from error


def find_factory(name: str) -> Callable[[], Any]:
    """The function called ``package.module:factory``."""
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise BundleError(
                f"--model {name}: there is no module {error.name!r} in {Path.cwd()} "
                "or among the packages installed"
            ) from error
        raise BundleError(f"--model {name}: {raised(error)}") from error
    except (Exception, SystemExit) as error:
        raise BundleError(f"--model {name}: {raised(error)}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        close = get_close_matches(attribute, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        what = "is no function" if hasattr(module, attribute) else f"is not in {module_name}"
        raise BundleError(f"--model {name}: {attribute!r} {what}{hint}")
    return found  # type: ignore[no-any-return]


def raised(error: BaseException) -> str:
    """An exception of the user's code in one line, with the place."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{Path(error.filename).name}, line {error.lineno}"
    elif frames:
        place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"
    else:
        place = "its code"
    text = str(error).strip()
    message = f": {text.splitlines()[0]}" if text else ""
    return f"raised {type(error).__name__}{message} ({place})"


def hash_of_network(network: nn.Module, name: str) -> str:
    """Hexadecimal SHA-256 of all tensors of a network: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        if nn.parameter.is_lazy(value) or value.is_meta:
            raise BundleError(f"--model {name}: {key} has no values yet; load them, or run it once")
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _hash_of_code(factory: Callable[[], Any]) -> str | None:
    try:
        source = inspect.getsourcefile(inspect.unwrap(factory))
        return None if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


class Prepared(nn.Module):
    """A network of the user's as it is deployed: uint8 RGB crops in, a tuple of outputs out.

    Args:
        bundle: What a factory made.
        outputs: Names of the outputs to return.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, bundle: Bundle, outputs: Sequence[str]) -> None:
        super().__init__()
        if bundle.network is None:
            raise ValueError(f"{bundle.name} is a bundle of files, no network")
        self.network = bundle.network
        self.outputs = tuple(outputs)
        self._name, self._input = str(bundle.graph), bundle.input
        self.register_buffer("mean", torch.tensor(bundle.input.mean))
        self.register_buffer("std", torch.tensor(bundle.input.std))

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Outputs in order, of uint8 RGB crops (N, S, S, 3)."""
        if self._input.color == "BGR":
            crops = crops.flip(-1)
        elif self._input.color == "gray":
            red, green, blue = (crops[..., k : k + 1] * LUMA[k] for k in range(3))
            crops = torch.round(red + green + blue)
        images = (crops.float() * (self._input.range / 255) - self.mean) / self.std
        if self._input.layout == "NCHW":
            # Contiguous: many networks take a view of their features.
            images = images.permute(0, 3, 1, 2).contiguous()
        found = by_name(self.network(images), self._name)
        for name in self.outputs:
            if name not in found:
                raise BundleError(
                    f"{self._name}: has no output {name!r}; its outputs are {', '.join(found)}"
                )
        return tuple(found[name] for name in self.outputs)


def by_name(returned: Any, name: str) -> dict[str, Tensor]:
    """Tensors by name: of a dict its own, of a tuple ``0``, ``1``, ..., of a tensor ``output``."""
    if isinstance(returned, Tensor):
        return {ONE_OUTPUT: returned}
    if isinstance(returned, tuple) and hasattr(returned, "_asdict"):
        returned = returned._asdict()
    if isinstance(returned, Mapping):
        named = {str(key): value for key, value in returned.items()}
    elif isinstance(returned, list | tuple):
        named = {str(place): value for place, value in enumerate(returned)}
    else:
        raise BundleError(
            f"{name}: its network returned {_kind(returned)}; return a tensor, a tuple of tensors "
            "or a dict of them"
        )
    found = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not found:
        raise BundleError(f"{name}: its network returned no tensor")
    return found


class PerTask(nn.Module):
    """The same with one output per task, (N, K), without the other columns."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self._tasks = bundle.tasks
        self.prepared = Prepared(bundle, [task.tensor for task in bundle.tasks])

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of the tasks, of uint8 RGB crops (N, S, S, 3)."""
        values = self.prepared(crops)
        return tuple(
            value.reshape(value.shape[0], -1)[:, task.columns]
            for task, value in zip(self._tasks, values, strict=True)
        )


def trace_network(bundle: Bundle) -> tuple[onnx.ModelProto, Bundle]:
    """The ONNX graph of a factory's network with its normalization, and the facts of that graph.

    Raises:
        BundleError: If it cannot be traced, or the graph answers differently.
    """
    import onnxruntime

    from faceaudit.models.export import trace

    deployed, names = PerTask(bundle).eval(), [task.name for task in bundle.tasks]
    size = bundle.input.size
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what tracing cannot follow is found below
            graph = trace(deployed, size, names)
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        found = session.run(names, {"crops": crops})
    except BundleError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"{bundle.graph}: cannot be written as ONNX ({reason})") from error
    with torch.inference_mode():
        wanted = [value.numpy() for value in deployed(torch.from_numpy(crops))]
    for name, ours, theirs in zip(names, found, wanted, strict=True):
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
            raise BundleError(
                f"{bundle.graph}: its graph answers differently for {name}; its forward must not "
                "depend on values or on the number of images"
            )
    tasks = tuple(replace(task, output=task.name) for task in bundle.tasks)
    return graph, replace(bundle, input=Input(size, "NHWC", range=255.0), tasks=tasks, network=None)

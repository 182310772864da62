"""`faceaudit export`: a bundle as one ONNX file with its sidecar, for other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from faceaudit.errors import UsageError
from faceaudit.models.bundle import DEFAULT_BUNDLE, Bundle, facts_of, hash_of, load_bundle
from faceaudit.models.load import load_model
from faceaudit.storage import atomic_write, write_text


def export(model: str | Path = DEFAULT_BUNDLE, file: str | Path = "model.onnx") -> Bundle:
    """Write a bundle as one ONNX file that holds its weights, and its facts beside it.

    ``faceaudit predict --model FILE`` takes the result; any ONNX runtime runs it: uint8 RGB crops
    (N, S, S, 3) in, one array of logits per task out (an ``.onnx`` file keeps its own input).

    Args:
        model: The name of a bundle that ships, a bundle's folder, an ``.onnx`` file, or a function
            that makes a network, ``package.module:factory``.
        file: Where it goes, ``NAME.onnx``; the sidecar is ``NAME.json``.

    Raises:
        BundleError: If the bundle is missing or damaged.
        UsageError: If the file's name does not end in ``.onnx``, or only one of
            the two files exists, such as a bundle's own graph.
        InputError: If it cannot be written.
    """
    import onnx

    target = Path(file)
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"{file}: an exported model is written to a file that ends in .onnx")
    sidecar = target.with_suffix(".json")
    if sidecar.exists() != target.exists():
        found, absent = (sidecar, target) if sidecar.exists() else (target, sidecar)
        raise UsageError(
            f"{found}: exists without {absent.name}, so export did not write it; give another "
            "name, or move it away"
        )
    bundle = load_model(model)
    if bundle.network is None:
        graph = onnx.load(bundle.graph)  # with the weights that it refers to
    else:
        from faceaudit.models.factory import trace_network

        graph, bundle = trace_network(bundle)
    for initializer in graph.graph.initializer:
        del initializer.external_data[:]
        initializer.ClearField("data_location")
    with atomic_write(target) as out:
        out.write(graph.SerializeToString())
    written = replace(bundle, graph=target, sha256=hash_of([target]))
    write_text(sidecar, json.dumps(facts_of(written), indent=2) + "\n")
    return load_bundle(target)

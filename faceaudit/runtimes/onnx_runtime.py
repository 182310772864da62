"""ONNX Runtime on a CPU: the fast way without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from faceaudit.errors import BundleError
from faceaudit.models.bundle import Bundle
from faceaudit.runtimes.preprocess import prepare

LOAD_ERRORS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)
"""What ONNX Runtime raises for a graph it cannot run; they have no common base of their own."""


class OnnxRuntime:
    """A bundle's graph in an ONNX Runtime session; the session may be shared by threads."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, outputs: Sequence[str], threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(bundle.graph), options, providers=["CPUExecutionProvider"]
            )
        except LOAD_ERRORS as error:
            reason = str(error).splitlines()[0]
            raise BundleError(f"{bundle.graph}: ONNX Runtime cannot load it ({reason})") from error
        given = self._session.get_inputs()
        if len(given) != 1:
            raise BundleError(f"{bundle.graph}: has {len(given)} inputs; one is expected")
        self._input = given[0].name
        self._takes_pixels = given[0].type == "tensor(uint8)"
        self._bundle = bundle
        self._outputs = list(outputs)
        known = [output.name for output in self._session.get_outputs()]
        for name in self._outputs:
            if name not in known:
                raise BundleError(
                    f"{bundle.graph}: has no output {name!r}; its outputs are {', '.join(known)}"
                )

    def facts(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": onnxruntime.__version__,
            "device": "cpu",
            "precision": "float32",
        }

    def infer(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        images = crops if self._takes_pixels else prepare(crops, self._bundle.input)
        values = self._session.run(self._outputs, {self._input: images})
        return dict(zip(self._outputs, values, strict=True))

"""ONNX Runtime on a CPU: the fast way without torch."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from faceaudit.errors import BundleError
from faceaudit.models.bundle import Bundle, hash_of
from faceaudit.runtimes.preprocess import prepare
from faceaudit.runtimes.processor import INT8, has_instructions

log = logging.getLogger(__name__)

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


AT_ONCE = 8
"""Images that go through a graph of any number together: what lies between two of its layers then
fits a core's cache, which is faster than more, and needs less memory (benchmarks.predict_gains)."""

EXACT_INT8 = "session.x64quantprecision"

OUT_OF_MEMORY = re.compile(r"bad allocation|bad_alloc|[Ff]ailed to allocate memory")
"""What ONNX Runtime says where memory does not suffice; it has no exception of its own."""

INPUT_TYPES: dict[str, type] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
"""What a graph's input can be; one of uint8 normalizes by itself."""


class OnnxRuntime:
    """A bundle's graph in an ONNX Runtime session; the session may be shared by threads.

    Args:
        bundle: What to run.
        outputs: Names of the outputs wanted.
        threads: Of one ``infer`` call.
        int8: The graph to run in the place of the bundle's own, in int8.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        outputs: Sequence[str],
        threads: int = 1,
        int8: Path | None = None,
    ) -> None:
        self._precision = {"precision": "float32"}
        if int8 is not None:
            self._precision = {"precision": "int8", "graph": hash_of([int8])}
            if not has_instructions(INT8):
                log.warning(
                    "--precision int8: this processor has no instructions for it (VNNI); it is no "
                    "faster than float32 here"
                )
        self._session = load_session(int8 or bundle.graph, threads)
        self._input, self._dtype, self._batch = read_input(self._session, bundle)
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
            **self._precision,
        }

    def infer(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        images = prepare(crops, self._bundle.input, self._dtype)
        size = self._batch or AT_ONCE
        try:
            parts = [
                self._run(images[start : start + size]) for start in range(0, len(images), size)
            ]
        except errors.RuntimeException as error:
            if not OUT_OF_MEMORY.search(str(error)):
                raise
            raise MemoryError(f"ONNX Runtime: no memory for {size} images") from error
        values = (
            part[0] if len(part) == 1 else np.concatenate(part) for part in zip(*parts, strict=True)
        )
        return dict(zip(self._outputs, values, strict=True))

    def _run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs of at most as many images as the graph takes at once."""
        count = len(images)
        if not self._batch:
            values = self._session.run(self._outputs, {self._input: images})
            return [np.asarray(value, np.float32) for value in values]
        filled = np.concatenate([images, np.repeat(images[-1:], self._batch - count, axis=0)])
        values = self._session.run(self._outputs, {self._input: filled})
        return [self._rows(value)[:count] for value in values]

    def _rows(self, value: NDArray[Any]) -> NDArray[np.float32]:
        """A row per image; a graph of one image may leave that axis out."""
        if self._batch == 1 and value.shape[:1] != (1,):
            value = value[np.newaxis]
        if len(value) != self._batch:
            raise BundleError(
                f"{self._bundle.graph}: returns {len(value)} rows for {self._batch} images"
            )
        return np.asarray(value, np.float32)


def load_session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """A graph ready to run on the CPU.

    Raises:
        BundleError: If ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not has_instructions(INT8):
        # Sums of products of int8 would saturate; this computes them exactly, more slowly.
        options.add_session_config_entry(EXACT_INT8, "1")
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except LOAD_ERRORS as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{graph}: ONNX Runtime cannot load it ({reason})") from error


def read_input(session: onnxruntime.InferenceSession, bundle: Bundle) -> tuple[str, type, int]:
    """The name and the type of a graph's input, and its number of images, 0 for any.

    Raises:
        BundleError: If it is not what the facts say.
    """
    given = session.get_inputs()
    if len(given) != 1:
        raise BundleError(f"{bundle.graph}: has {len(given)} inputs; one is expected")
    name, kind, shape = given[0].name, given[0].type, given[0].shape or [None] * 4
    if kind not in INPUT_TYPES:
        raise BundleError(
            f"{bundle.graph}: its input {name!r} is a {kind}; it can be {', '.join(INPUT_TYPES)}"
        )
    facts = bundle.input
    wanted = [facts.size, facts.size, facts.channels]
    wanted = wanted[2:] + wanted[:2] if facts.layout == "NCHW" else wanted
    fits = len(shape) == 4 and all(
        not isinstance(found, int) or found == size
        for found, size in zip(shape[1:], wanted, strict=True)
    )
    if not fits:
        raise BundleError(
            f"{bundle.graph}: its input {name!r} is {' x '.join(map(str, shape))}, but its facts "
            f"say input.layout {facts.layout} and input.size {facts.size}: "
            f"N x {' x '.join(map(str, wanted))}"
        )
    return name, INPUT_TYPES[kind], shape[0] if isinstance(shape[0], int) else 0

"""The engine ``ray`` on a real cluster of two machines, which are processes on this one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceaudit.errors import FaceauditError, UsageError
from faceaudit.images import refs
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.models.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from faceaudit.pipeline import dataset, engines
from faceaudit.pipeline.engines import ENGINES
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Settings
from faceaudit.storage import as_path
from tests.pipeline.processes import run, wait_for_rows

# It says how Ray is imported; without Ray there is nothing to test here.
pytest.importorskip(
    "faceaudit.pipeline.ray_engine",
    reason="needs ray: pip install 'faceaudit[ray]'",
    exc_type=ImportError,
)
ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow

IMAGES = 240
NODE = {
    "num_cpus": 1,
    "node_ip_address": "127.0.0.1",
    "include_dashboard": False,
    "object_store_memory": 100 << 20,
}


@pytest.fixture(scope="module")
def model(random_bundle: Bundle) -> str:
    return str(random_bundle.graph.parent)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images with labels in their names; one is broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(IMAGES - 1):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number % 90}_{number % 2}_0_{number:08d}.png")
    (folder / "30_0_0_99999999.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def whole(photos: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that the local engine makes."""
    out = tmp_path_factory.mktemp("whole") / "out.parquet"
    run(photos, out, model)
    return out


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines with a core each, reachable from this one only."""
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE)
    found.add_node(**NODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", found.address)
        yield found
    ray.shutdown()
    found.shutdown()


def rows_in(out: Path) -> pa.Table:
    parts = sorted(out.glob("part-*.parquet")) if out.is_dir() else [out]
    return pa.concat_tables([pq.read_table(part) for part in parts]).replace_schema_metadata(None)


def test_a_machine_that_dies_midway_changes_no_row(
    cluster: Any, photos: Path, model: str, whole: Path, tmp_path: Path
) -> None:
    node, kept = next(iter(cluster.worker_nodes)), []
    add = dataset.DataSet.add

    def adding(self: dataset.DataSet, *given: Any) -> None:
        add(self, *given)
        kept.append(time.monotonic())
        if len(kept) == 5:
            cluster.remove_node(node, allow_graceful=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset.DataSet, "add", adding)
        found = run(photos, tmp_path / "out.parquet", model, engine="ray", workers=None)
    cluster.add_node(**NODE)
    assert found.scored == IMAGES
    assert len(kept) == IMAGES / 8
    assert (tmp_path / "out.parquet").read_bytes() == whole.read_bytes()


@pytest.fixture
def interrupted(photos: Path, model: str, tmp_path: Path) -> Callable[[str], Path]:
    """An output whose local run failed after some chunks."""

    def begin(name: str) -> Path:
        score_rows, left = engines.rows_of, [9]

        def rows_of(*given: Any) -> pa.Table:
            left[0] -= 1
            if left[0] < 0:
                raise InterruptedError
            return score_rows(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engines, "rows_of", rows_of)
            with pytest.raises(InterruptedError):
                run(photos, tmp_path / name, model, workers=1)
        return tmp_path / name

    return begin


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_what_the_local_engine_began_the_cluster_finishes(
    cluster: Any,
    interrupted: Callable[[str], Path],
    photos: Path,
    model: str,
    whole: Path,
    name: str,
) -> None:
    out = interrupted(name)
    found = run(photos, out, model, engine="ray")
    assert 0 < found.scored < IMAGES
    assert rows_in(out).equals(rows_in(whole))
    assert run(photos, out, model, engine="ray").already_complete


def predict_command(photos: Path | str, out: Path | str, model: str) -> list[str]:
    command = [sys.executable, "-m", "faceaudit.cli", "predict", str(photos), str(out)]
    command += ["--model", model, "--detector", "whole", "--batch-size", "2", "--quiet"]
    return [*command, "--engine", "ray", "--workers", "2"]


def test_what_a_killed_driver_began_the_local_engine_finishes(
    cluster: Any, photos: Path, model: str, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    process = subprocess.Popen(predict_command(photos, out, model), text=True)
    wait_for_rows(process, out)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    found = run(photos, out, model)
    assert 0 < found.scored < IMAGES
    assert rows_in(out).equals(rows_in(whole))


LOOPBACK = "0100007F"
"""127.0.0.1 as in /proc/net, alone or as the end of an IPv6 address."""


def addresses_listened_on(group: int) -> set[str]:
    """What the processes of a group listen on, as in /proc/net."""
    sockets = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                sockets |= {str(link.readlink()) for link in (folder / "fd").iterdir()}
        except OSError:  # it has ended meanwhile
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].split(":")[0])
    return found


def test_a_signal_at_a_terminal_lets_the_images_under_way_finish(
    photos: Path, model: str, whole: Path, tmp_path: Path
) -> None:
    """Without an address a cluster is started here; Ctrl-C reaches all processes of a terminal."""
    out = tmp_path / "out.parquet"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        predict_command(photos, out, model),
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env=environment,
    )
    wait_for_rows(process, out)
    if sys.platform == "linux":
        listening = addresses_listened_on(process.pid)
        assert listening
        assert all(address.endswith(LOOPBACK) for address in listening), listening
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert said.count("\n") == 1, said
    assert said.startswith("Error: SIGINT: the run ended")
    found = run(photos, out, model)
    assert 0 < found.scored < IMAGES
    assert rows_in(out).equals(rows_in(whole))


def test_images_and_parts_on_an_object_store(
    photos: Path, model: str, whole: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process of the cluster, which is started there, finds the credentials by itself."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    source, out = f"{bucket}/photos", f"{bucket}/out"
    for path in photos.iterdir():
        as_path(f"{source}/{path.name}").write_bytes(path.read_bytes())
    # Not in this process: what Ray holds of one cluster in a process spoils another.
    command = predict_command(source, out, model)
    command[command.index("--batch-size") + 1] = "8"
    subprocess.run([*command, "--part-rows", "100"], check=True)
    parts = sorted(as_path(out).glob("part-*.parquet"))
    assert len(parts) == -(-IMAGES // 100)
    tables = [pq.read_table(io.BytesIO(part.read_bytes())) for part in parts]
    assert pa.concat_tables(tables).replace_schema_metadata(None).equals(rows_in(whole))
    assert run(as_path(source), as_path(out), model).already_complete


# --- workers that end -------------------------------------------------------------------------


class Deadly:
    """Holds images; a process that reads one of them ends."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def read(self, ref: ImageRef) -> bytes:
        if ref.name in self.names:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_bytes(ImageRef(ref.name, ref.path))

    def stamp(self, path: str) -> str:
        return path


def settings_of(model: str, whole: Path) -> Settings:
    schema = pq.read_schema(whole).remove_metadata()
    return Settings(
        model=model,
        tasks=("gender", "race", "age"),
        age_bins=(0, 3, 10, 20, 30, 40, 50, 60, 70),
        detector="whole",
        faces="largest",
        align=None,
        margin=None,
        max_pixels=10_000_000,
        device="cpu",
        precision="auto",
        runtime=None,
        schema=schema,
    )


def test_an_image_that_ends_its_workers_costs_its_own_row(
    cluster: Any, photos: Path, model: str, whole: Path
) -> None:
    wanted = rows_in(whole)
    settings = settings_of(model, whole)
    names = wanted["image"].to_pylist()[:16]
    labels = [name for name in wanted.column_names if name.endswith("_true")]
    holder = Deadly({names[5]})
    chunks = [
        Chunk(
            [
                ImageRef(name, str(photos / name), holder=holder)
                for name in names[start : start + 4]
            ],
            {label: wanted[label].to_pylist()[start : start + 4] for label in labels},
        )
        for start in range(0, 16, 4)
    ]
    engine = ENGINES["ray"](settings, load_bundle(model), 2)
    tables = list(engine.tables(chunks))
    engine.close()
    assert [len(table) for table in tables] == [4, 4, 4, 4]
    found = pa.concat_tables(tables)
    others = [place for place in range(16) if place != 5]
    assert found.take(others).equals(wanted.take(others))
    row = found.take([5]).to_pylist()[0]
    assert row["image"] == names[5]
    assert (row["status"], row["error"]) == ("unreadable", "its worker ended 3 times")
    assert row["gender_pred"] is None
    assert row["age_true"] == wanted["age_true"][5].as_py()


# --- what is refused --------------------------------------------------------------------------


def test_images_that_the_workers_do_not_see_are_refused(
    cluster: Any, photos: Path, model: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that this process sees under a name that no other does."""
    away = photos.rename(photos.with_name("away"))
    sees = refs.stamp_of

    def stamp_of(path: str) -> str:
        return sees(str(away / Path(path).name) if Path(path).parent == photos else path)

    monkeypatch.setattr(refs, "stamp_of", stamp_of)
    try:
        chunk = Chunk([ImageRef("0_0_0_00000000.png", str(photos / "0_0_0_00000000.png"))])
        engine = ENGINES["ray"](settings_of(model, whole), load_bundle(model), 1)
        with pytest.raises(UsageError, match=r"does not see .* use a folder that all machines"):
            list(engine.tables([chunk]))
    finally:
        away.rename(photos)


def test_an_address_that_can_be_none_is_refused(
    model: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise ValueError("Malformed address: nowhere")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    engine = ENGINES["ray"](settings_of(model, whole), load_bundle(model), 1)
    with pytest.raises(UsageError, match=r"RAY_ADDRESS=nowhere: Malformed address"):
        list(engine.tables([Chunk([])]))


def test_a_model_that_ships_is_the_same_on_all_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceaudit.pipeline.ray_engine import _everywhere

    monkeypatch.chdir(tmp_path)
    for name in (DEFAULT_BUNDLE, "mine"):
        (tmp_path / name).mkdir()
    assert _everywhere(DEFAULT_BUNDLE) == DEFAULT_BUNDLE
    assert _everywhere("mine") == str(tmp_path / "mine")


def test_a_gpu_by_number_is_refused_as_each_worker_has_its_own(
    photos: Path, model: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="give --device cuda"):
        run(photos, tmp_path / "out.parquet", model, engine="ray", device="cuda:1")


def test_without_the_extra_its_name_is_said(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(FaceauditError, match=r"pip install 'faceaudit\[ray\]'"):
        run(photos, tmp_path / "out.parquet", model, engine="ray")

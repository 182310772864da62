from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, InputError, RefusedError, TemporaryError
from faceaudit.images.find import find_images
from faceaudit.images.refs import MISSING, ImageRef
from faceaudit.pipeline import ray_worker
from faceaudit.pipeline.inputs import Chunk, Inputs
from faceaudit.pipeline.plan import Settings
from faceaudit.pipeline.ray_worker import Refusal, Scorer
from faceaudit.pipeline.witness import Watch, Witness

READ, REFUSED, DAMAGED = "read", "cannot be read: permission denied", "cut off"


class Holder:
    """A store that refuses some images."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def read(self, ref: ImageRef) -> bytes:
        if ref.name in self.refused:
            raise RefusedError(ref.path, "permission denied")
        return b"x"

    def stamp(self, path: str) -> str:
        return MISSING if path.rpartition("/")[2] in self.refused else "1 etag"


def image(holder: Holder, name: str) -> ImageRef:
    return ImageRef(name, f"s3://faces/{name}", holder=holder)


def rows(said: dict[str, str]) -> pa.Table:
    """Rows of images: read, or with the error that is said of them."""
    return pa.table(
        {
            "image": list(said),
            "sha256": ["ab" if what in (READ, DAMAGED) else None for what in said.values()],
            "error": pa.array(
                [None if what == READ else what for what in said.values()], pa.string()
            ),
        }
    )


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(b"x")
    return Watch(Inputs(find_images(tmp_path / "in"), None, (), (0,)))


def test_images_that_a_store_refuses_although_it_gave_others_end_the_run(watch: Watch) -> None:
    holder = Holder()
    watch.check([image(holder, "1")], rows({"1": READ}))
    holder.refused = {"2", "3"}
    watch.check([image(holder, name) for name in "23"], rows({"2": REFUSED, "3": REFUSED}))
    holder.refused |= {"1"}
    watch.check([image(holder, "4")], rows({"4": DAMAGED}))
    with pytest.raises(TemporaryError, match=r"refuses images that it gave before.*credentials"):
        watch.check([image(holder, "2")], rows({"2": REFUSED}))


def test_images_of_which_a_store_gives_none_end_the_run_with_its_reason(watch: Watch) -> None:
    holder = Holder()
    holder.refused = {"1", "2"}
    images = [image(holder, name) for name in "12"]
    watch.check(images, rows({"1": REFUSED, "2": "its worker ended 3 times"}))
    with pytest.raises(InputError, match="1: permission denied"):
        watch.check(images, rows({"1": REFUSED, "2": REFUSED}))


def test_a_mount_point_without_its_volume_is_not_the_folder_of_the_images(
    watch: Watch, tmp_path: Path
) -> None:
    unread = rows({"1.jpg": "cannot be read: No such file or directory"})
    ref = ImageRef("1.jpg", str(tmp_path / "in" / "1.jpg"))
    watch.check([ref], unread)
    (tmp_path / "in").rename(tmp_path / "volume")
    (tmp_path / "in").mkdir()
    with pytest.raises(TemporaryError, match="are gone since the run began"):
        watch.check([ref], unread)


def scored(monkeypatch: pytest.MonkeyPatch, scorer: Scorer, table: pa.Table) -> Any:
    monkeypatch.setattr(ray_worker, "score", lambda plan, chunk: table)
    return scorer.score(Chunk([]))


class Ready:
    """What opens at once."""

    def open(self) -> Ready:
        return self

    def facts(self) -> None:
        return None


READY = cast("Settings", Ready())


def test_a_worker_that_a_store_refuses_is_refused_at_once() -> None:
    holder = Holder()
    witness = Witness.of([image(holder, "1")])
    assert witness is not None
    assert not isinstance(Scorer().open(READY, witness), Refusal)
    holder.refused = {"1"}
    refusal = Scorer().open(READY, witness)
    assert isinstance(refusal, Refusal)
    assert refusal.exit_code == EXIT_USAGE
    assert "does not see s3://faces/1 as this machine does" in refusal.message


def test_a_worker_whose_credentials_end_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    holder, scorer = Holder(), Scorer()
    scorer.open(READY, Witness.of([image(holder, "1")]))
    assert scored(monkeypatch, scorer, rows({"2": REFUSED})) == rows({"2": REFUSED})
    holder.refused = {"1"}
    assert scored(monkeypatch, scorer, rows({"2": DAMAGED})) == rows({"2": DAMAGED})
    refusal = scored(monkeypatch, scorer, rows({"2": REFUSED}))
    assert refusal.exit_code == EXIT_TEMPORARY
    assert "refuses images that it gave before" in refusal.message


def test_a_worker_notices_that_a_volume_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scorer = tmp_path / "in", Scorer()
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"x")
    scorer.open(READY, Witness.of([ImageRef("1.jpg", str(folder / "1.jpg"))]))
    assert scored(monkeypatch, scorer, rows({"2": REFUSED})) == rows({"2": REFUSED})
    folder.rename(tmp_path / "volume")
    folder.mkdir()
    refusal = scored(monkeypatch, scorer, rows({"2": REFUSED}))
    assert refusal.exit_code == EXIT_TEMPORARY
    assert "are gone since the run began" in refusal.message

"""Images with their labels and carried columns, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress, islice, repeat
from typing import Any

from faceaudit.images.refs import ImageRef, stamps_of
from faceaudit.images.source import Batch, ImageSource
from faceaudit.labels import Labels
from faceaudit.labels.carried import Carried, without_tasks
from faceaudit.models.bundle import Output
from faceaudit.ordered import in_chunks
from faceaudit.pipeline.digest import ImageDigest, digest_of
from faceaudit.pipeline.extra import join_extra
from faceaudit.pipeline.known import Listed
from faceaudit.pipeline.purged import Purged
from faceaudit.schema import without_example
from faceaudit.storage import as_path, identity, is_remote

AT_ONCE = 1024
"""Images that are listed at a time."""


@dataclass(frozen=True)
class Chunk:
    """Some images in order, with their labels and carried columns."""

    images: Sequence[ImageRef]
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    digests: Sequence[ImageDigest] = ()

    def __len__(self) -> int:
        return len(self.images)

    def halves(self) -> tuple[Chunk, Chunk]:
        """The first and the second half of the images."""
        middle = len(self) // 2
        return self._part(slice(0, middle)), self._part(slice(middle, None))

    def _part(self, of: slice) -> Chunk:
        extra = {name: values[of] for name, values in self.extra.items()}
        return Chunk(self.images[of], extra, self.digests[of])


class Inputs:
    """The images of a run with what stands beside them; walked anew each time they are asked for.

    Nothing is held but some images at a time and the label file.
    """

    def __init__(
        self,
        source: ImageSource,
        labels: Labels | None,
        outputs: Sequence[Output],
        age_bins: tuple[int, ...],
        limit: int | None = None,
        said: tuple[str, ...] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        """Find the columns of what stands beside the images.

        Args:
            source: The images.
            labels: Their labels.
            outputs: What the model predicts.
            age_bins: Lower bounds of the age groups, in years.
            limit: So many images are taken.
            said: Notes on the choice of the labels.
            left_out: Annotated columns that are not taken.

        Raises:
            InputError: If an annotated column that comes with the images is of a type that is none.
        """
        self.source = source
        labels = self.labels = without_tasks(labels, left_out)
        self.limit = limit
        self.purged = Purged()
        """Images that are passed over."""
        self.passed_over = 0
        """How many the last walk passed over."""
        self._said = said
        self._carried = Carried(source.carried_schema, source.source, labels, left_out)
        self._join = partial(join_extra, outputs=outputs, age_bins=age_bins)
        of_labels = None if labels is None else labels.columns
        self.extra = self._join(of_labels, self._carried.of(source.carried_schema))
        """The columns of labels and carried values, without rows."""
        self._place = source.folder or as_path(source.source)
        self._was_there = self._seen()
        self._notes: tuple[str, ...] | None = None

    @property
    def columns(self) -> list[str]:
        """The names of labels and carried columns."""
        return self.extra.columns

    def notes(self) -> tuple[str, ...]:
        """What the labels of all images lack, once all were walked; later walks add nothing."""
        if self._notes is None:
            of_labels = () if self.labels is None else self.labels.notes()
            self._notes = (*self._said, *self._carried.notes(), *of_labels)
        return tuple(map(without_example, self._notes)) if len(self.purged) else self._notes

    def names(self) -> Iterator[str]:
        """The names of all images in order."""
        names = (ref.name for ref in islice(self.source, self.limit))
        return (name for name in names if not self.purged.has(name))

    def are_gone(self) -> bool:
        """Whether the folder or file that held the images can be seen no more.

        Also where another has its name, such as the folder that a volume was mounted on.
        """
        return self._was_there is not None and self._seen() != self._was_there

    def _seen(self) -> object | None:
        """What is seen of the place of the images; None where it is not there."""
        if not is_remote(self._place):
            return identity(self._place)
        try:
            return self._place.exists() or None
        except OSError:
            return None

    def listed(self) -> Iterator[Listed]:
        """Every image with its digest."""
        for rows in in_chunks(self._rows(), AT_ONCE):
            refs = [ref for ref, _ in rows]
            yield from map(Listed, refs, _digests(rows))
        self.notes()

    def chunks(self, size: int, wanted: Callable[[str], bool] | None = None) -> Iterator[Chunk]:
        """Chunks of images in order.

        Args:
            size: Images per chunk; all but the last have as many.
            wanted: Whether an image of this name is taken; None takes all.
        """
        rows = (row for row in self._rows() if wanted is None or wanted(row[0].name))
        while taken := list(islice(rows, size)):
            refs = [ref for ref, _ in taken]
            values = [list(column) for column in zip(*(row for _, row in taken), strict=True)]
            yield Chunk(refs, dict(zip(self.columns, values, strict=True)), _digests(taken))

    def _rows(self) -> Iterator[tuple[ImageRef, tuple[Any, ...]]]:
        """Images and the values beside them, one by one."""
        left, passed_over = self.limit, 0
        for found in self.source.batches(AT_ONCE):
            batch = self._without_purged(found, left)
            names = [ref.name for ref in batch.refs]
            of_labels = None if self.labels is None else self.labels.of(names)
            frame = self._join(of_labels, self._carried.of(batch.carried))
            rows = frame.iter_rows() if frame.width else repeat(())
            yield from zip(batch.refs, rows, strict=False)
            taken = len(found.refs[:left])
            passed_over += taken - len(batch.refs)
            left = None if left is None else left - taken
            if left == 0:
                break
        self.passed_over = passed_over

    def _without_purged(self, batch: Batch, left: int | None) -> Batch:
        """The images of a batch that are taken, of the first so many."""
        refs = batch.refs[:left]
        carried = None if batch.carried is None else batch.carried[:left]
        kept = [not self.purged.has(ref.name) for ref in refs]
        if all(kept):
            return Batch(refs, carried)
        rest = None if carried is None else carried.filter(kept)
        return Batch(list(compress(refs, kept)), rest)


def _digests(rows: Sequence[tuple[ImageRef, tuple[Any, ...]]]) -> list[ImageDigest]:
    """The digests of images and the values beside them."""
    stamps = stamps_of([ref for ref, _ in rows])
    return [digest_of(ref.name, stamp, row) for (ref, row), stamp in zip(rows, stamps, strict=True)]

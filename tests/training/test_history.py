from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceaudit.training.history import _panels, draw_history

HISTORY = """epoch,size,loss,gender,age_group,gender_loss,age_loss
1,64,3.1,0.61,0.20,0.66,3.9
2,64,2.4,0.72,0.31,0.51,3.3
"""


def test_columns_that_share_a_scale_share_a_panel() -> None:
    columns = ["epoch", "size", "loss", "gender", "age_mae", "gender_loss", "seconds"]
    assert list(_panels(columns).values()) == [["loss", "gender_loss"], ["gender"], ["age_mae"]]


@pytest.mark.parametrize(
    ("text", "panels"),
    [
        (HISTORY, 2),
        (HISTORY.splitlines()[0] + "\n" + HISTORY.splitlines()[1], 2),
        ("epoch,size,loss,age_mae,age_loss\n1,64,3.1,nan,0.2\n2,64,2.0,,0.1\n", 2),
    ],
    ids=["two epochs", "one epoch", "undefined values"],
)
def test_a_history_is_drawn_the_same_each_time(tmp_path: Path, text: str, panels: int) -> None:
    (tmp_path / "history.csv").write_text(text)
    picture = draw_history(tmp_path / "history.csv")
    assert picture == tmp_path / "history.png"
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] == pytest.approx(panels * 3.8 * 120, abs=2)
    assert (pixels < 128).mean() > 0.005
    first = picture.read_bytes()
    assert draw_history(tmp_path / "history.csv").read_bytes() == first

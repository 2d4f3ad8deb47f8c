"""Makes the Parquet files of this folder: what the tests cannot write themselves (zstd is a C library there).

    pip install pyarrow pillow; python make.py

Eight 4×4 PNGs of one colour, (30 i, 255 − 30 i, 10 i), of classes "even" and "odd"; row 5 has no class.
"""

import io
import json

import pyarrow
import pyarrow.parquet
from PIL import Image


def png(i):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (30 * i, 255 - 30 * i, 10 * i)).save(out, "PNG")
    return out.getvalue()


rows = [{"bytes": png(i), "path": f"{i}.png"} for i in range(8)]
labels = [None if i == 5 else i % 2 for i in range(8)]
texts = [f"picture number {i}" if i else None for i in range(8)]
features = {"info": {"features": {"label": {"names": ["even", "odd"], "_type": "ClassLabel"}}}}
image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
table = pyarrow.table(
    {"image": pyarrow.array(rows, image), "label": pyarrow.array(labels, pyarrow.int64()), "text": texts}
).replace_schema_metadata({"huggingface": json.dumps(features)})
for version in ["1.0", "2.0"]:
    for dictionary in [True, False]:
        name = f"zstd-v{version[0]}{'-dictionary' if dictionary else ''}.parquet"
        pyarrow.parquet.write_table(
            table,
            name,
            compression="zstd",
            data_page_version=version,
            use_dictionary=dictionary,
            row_group_size=5,
        )

"""Makes data/digits.bin.gz from scikit-learn's copy of the UCI digits: 1,797 records of 64 pixels (0 to 16) and a label."""

import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
records = np.concatenate([digits.data, digits.target[:, None]], axis=1).astype(np.uint8)
target = Path(__file__).parent.parent / "data" / "digits.bin.gz"
target.write_bytes(gzip.compress(records.tobytes(), 9, mtime=0))
print(records.shape, digits.data.sum(), (digits.data**2).sum(), np.bincount(digits.target), target.stat().st_size)

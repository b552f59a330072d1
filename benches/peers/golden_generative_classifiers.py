"""Golden values of naive Bayes and logistic regression on features, from scikit-learn.

Run: python benches/peers/golden_generative_classifiers.py
(writes crates/ssl/tests/fixtures/generative_classifiers.safetensors)
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import MinMaxScaler, StandardScaler

rng = np.random.default_rng(0)
d, m, n = 7, 60, 25
out = {}
for k in (2, 4):
    y = np.concatenate([np.arange(k), rng.integers(0, k, m - k)])
    centres = rng.normal(size=(k, d))
    x = centres[y] + rng.normal(size=(m, d)) * rng.uniform(0.3, 2.0, size=(k, d))[y] + 3.0
    test = rng.normal(size=(n, d)) * 1.5 + 3.0
    out |= {f"{k}.x": x, f"{k}.y": y, f"{k}.test": test}

    # Its variances are per class; with the paper's they are averaged by the class shares.
    nb = GaussianNB(var_smoothing=0.0).fit(x, y)
    out[f"{k}.per_class"] = nb.predict_joint_log_proba(test)
    variance = nb.class_prior_ @ nb.var_
    nb.var_ = np.tile(variance, (k, 1))
    out[f"{k}.shared"] = nb.predict_joint_log_proba(test)
    out[f"{k}.shared_predicted"] = nb.predict(test)

    for c in (0.1, 10.0):
        # L-BFGS stops by the objective's changes, five digits before Newton's method does.
        lr = LogisticRegression(C=c, solver="newton-cg", tol=1e-12, max_iter=10_000).fit(x, y)
        out[f"{k}.lr_{c:g}"] = lr.predict_proba(test)
    for name, scaler in (("min_max", MinMaxScaler()), ("standard", StandardScaler())):
        lr = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-12).fit(scaler.fit_transform(x), y)
        out[f"{k}.{name}"] = lr.predict_proba(scaler.transform(test))

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/generative_classifiers.safetensors"
save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)

"""Does the work of work.py on request: one JSON object per line in, one out; benches/src/peer.rs describes them."""

import json
import os
import sys
import time

# Whatever a library prints must not end up among the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402

import work  # noqa: E402


def answer(request, state):
    if "prepare" in request:
        state.clear()
        torch.set_num_threads(request["threads"])
        make = getattr(work, request["prepare"])
        state["call"] = make(**request["arguments"])
        return {"package": make.package()}
    call, seconds, value = state["call"], [], 0.0
    for _ in range(request["calls"]):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "value": float(value)}


def main():
    state = {}
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), state)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()

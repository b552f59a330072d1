"""Does the work of the package `work` on request: one JSON object per line in, one out; benches/src/peer.rs describes them."""

import ctypes
import gc
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
    before = start_of_peak() if request["watched"] else None
    for _ in range(request["calls"]):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    memory = None if before is None else max(resident("VmHWM:") - before, 0.0)
    return {"seconds": seconds, "value": float(value), "memory_mb": memory}


def start_of_peak():
    """As in machine.rs: gives freed memory back, sets the high-water mark to what is left, and returns that in MB."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except (AttributeError, OSError):
        return None
    return resident("VmRSS:")


def resident(field):
    with open("/proc/self/status") as file:
        kib = next(line for line in file if line.startswith(field)).split()[1]
    return int(kib) * 1024 / 1e6


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

"""Send a run of made-up volumes to a server, with pyzmq and nothing else; docs/wire.md says what is sent.

    python examples/wire_sender.py tcp://127.0.0.1:5555

In examples/wire_sender.cpp and examples/wire_sender.m it is done in C++ and MATLAB.
"""

import json
import sys
import time
from array import array

import zmq

SHAPE, TR_S, N_VOLUMES = (24, 26, 20), 2.0, 3
AFFINE = [[3, 0, 0, -34], [0, 3, 0, -38], [0, 0, 3, -30], [0, 0, 0, 1]]


def deliver(socket, header, *arrays):
    """Send a message, again if needed, until it is acknowledged; return the reply."""
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        socket.send_multipart([json.dumps({"rtgod": 1, **header}).encode(), *arrays])
        while socket.poll(3000):  # milliseconds
            reply = json.loads(socket.recv())
            is_ours = (reply["run_id"], reply["index"]) == (header["run_id"], header.get("index"))
            if is_ours and reply["type"] == "acknowledged":
                return reply
            if is_ours and reply["type"] == "refused":
                raise SystemExit(f"refused: {reply['why']}")
            if is_ours or not reply["run_id"]:  # deferred, or garbled on the way
                time.sleep(1)
                break  # any other reply belongs to a message that was sent twice
    raise SystemExit("not acknowledged within 30 s; is `rtgod serve` running?")


def send_run(socket):
    """Send a run, its volumes and its end."""
    run = {"run_id": "my-run", "subject": "S1", "acquisition": str(time.time()), "n_volumes": N_VOLUMES}
    run |= {"type": "run", "tr_s": TR_S, "shape": SHAPE, "affine": AFFINE}
    name = deliver(socket, run)["taken_as"]
    n_voxels = SHAPE[0] * SHAPE[1] * SHAPE[2]
    spec = {"field": "data", "dtype": "int16", "shape": SHAPE, "order": "F"}  # x varies fastest
    for index in range(N_VOLUMES):
        data = array("h", range(1000 * index, 1000 * index + n_voxels))  # little-endian on any usual machine
        volume = {"type": "volume", "run_id": name, "index": index, "acquired_s": TR_S * index, "arrays": [spec]}
        deliver(socket, volume, data.tobytes())
    deliver(socket, {"type": "run-end", "run_id": name, "n_volumes": N_VOLUMES})


if __name__ == "__main__":
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(sys.argv[1])
        send_run(dealer)

"""Send volumes of any origin to a server, live: here a recorded run's, or random ones if no run is given.

    python examples/volume_source.py tcp://127.0.0.1:5555 [bold.nii.gz]

Replace `volumes` by code that reads your scanner. An acknowledged volume is on the server's disk, and is not lost.
"""

import sys

import numpy as np

import rtgod

RUN = rtgod.Run("example", "01", tr_s=2.0, shape=(32, 32, 24), affine=np.diag([6.0, 6.0, 6.0, 1.0]))


def random_volumes(n_volumes=10):
    """Make volumes of noise, int16; the server takes them, and answers why it cannot decode them."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 1000, RUN.shape, np.int16) for _ in range(n_volumes))


def send(address, run, volumes):
    """Send a run as its volumes come; return its answers: counts of rankings, and of other answers by reason."""
    with rtgod.Sender(address, name="example source") as sender:
        sender.send(run)
        for index, data in enumerate(volumes):
            reply = sender.send(rtgod.Volume(run.run_id, index, acquired_s=index * run.tr_s, data=data))
            print(f"volume {reply.index} {'was there already' if reply.duplicate else 'is on disk'} {reply.notice}")
        sender.send(rtgod.RunEnd(run.run_id, n_volumes=index + 1))
        return sender.answers


if __name__ == "__main__":
    run, volumes = RUN, random_volumes()
    if len(sys.argv) > 2:
        source = rtgod.open_run(sys.argv[2])
        run, volumes = source.run, (volume.data for volume in source)
    print(send(sys.argv[1], run, volumes))

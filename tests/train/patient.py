"""`xmodal_jax.main` on a machine with fewer cores than processes: one that waits for its turn is not taken for lost."""

import runpy

from xmodal_jax.train import alive

alive.SILENCE = alive.PATIENT = 300.0

if __name__ == "__main__":
    runpy.run_module("xmodal_jax.main", run_name="__main__", alter_sys=True)

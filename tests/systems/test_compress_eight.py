"""Algorithm 1 on eight simulated devices is that of one, stage by stage."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_eight_devices_learn_the_structure_that_one_does():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-m", "tests.systems.compress_eight"], cwd=ROOT, capture_output=True, text=True, timeout=900,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    one = found.pop("one")
    assert len(found) == 2 and any("kept" in values for values in one) and any("alignment" in values for values in one)
    for name, steps in found.items():
        for number, (ours, alone) in enumerate(zip(steps, one, strict=True)):
            for metric in set(alone) & {"loss", "contrastive", "kept", "alignment"}:
                np.testing.assert_allclose(
                    ours[metric], alone[metric], rtol=1e-5, atol=1e-6, err_msg=f"{name} {number} {metric}"
                )

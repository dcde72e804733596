"""The embed job, with an encoder that dies of some scans: python tests/ray/killer_job.py --config FILE."""

import os

import ray
from boldstream.cli import run_job
from planted_encoders import Killer, plant

if __name__ == "__main__":
    hook = {"worker_process_setup_hook": plant(Killer), "env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
    ray.init(address=os.environ["RAY_ADDRESS"], runtime_env=hook, log_to_driver=False)
    run_job("embed")

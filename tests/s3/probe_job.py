"""The probe job on a cluster whose workers have to be told of S3: python tests/s3/probe_job.py --config FILE."""

import os

import ray
from boldstream.cli import run_job

PASSED_ON = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION", "PYTHONPATH")

if __name__ == "__main__":
    told = {name: os.environ[name] for name in PASSED_ON}
    ray.init(address=os.environ["RAY_ADDRESS"], runtime_env={"env_vars": told}, log_to_driver=False)
    run_job("probe")

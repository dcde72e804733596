"""Walk the whole path once, on real scans: ingest, gradients, pretrain, embed, adjust, (probe,) report.

make demo          python jobs/demo.py          seven HCP scans, in minutes: boldstream-demo/
make demo-abide    python jobs/demo.py abide    ABIDE, with probes and transfer: boldstream-abide/
"""

from boldstream.demo import run_demo

if __name__ == "__main__":
    run_demo()

"""Walk the whole path once, on seven real HCP scans: ingest, gradients, pretrain, embed, adjust, report.

    make demo
    python jobs/demo.py

Writes everything to boldstream-demo/ and says where it is.
"""

from boldstream.demo import run_demo

if __name__ == "__main__":
    run_demo()

"""What pretraining minimises: the prediction of latents, and terms that keep them about the scans.

The plain objective has a trivial solution that uses nothing of a scan: tokens that depend on their position alone.
They can be predicted perfectly, and at the start positions are most of a token anyway.
"""

"""Zero-shot transfer: what is learnt in one cohort, asked unchanged of another."""

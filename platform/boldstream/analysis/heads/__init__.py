"""Heads: small models on frozen vectors. All that is chosen is chosen inside ``fit``, in inner folds."""

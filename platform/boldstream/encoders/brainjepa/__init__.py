"""Brain-JEPA (Dong et al., NeurIPS 2024, arXiv 2409.19407), written anew from its published description."""

"""Where the methods come from."""

SOURCES = {
    "amico": "Amico & Goñi (2018). The quest for identifiability in human functional connectomes. Scientific Reports "
    "8:8254.",
    "benjamini": "Benjamini & Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical "
    "Society B 57:289–300.",
    "delong": "DeLong, DeLong & Clarke-Pearson (1988). Comparing the areas under two or more correlated receiver "
    "operating characteristic curves. Biometrics 44:837–845.",
    "dong": "Dong et al. (2024). Brain-JEPA: Brain dynamics foundation model with gradient positioning and "
    "spatiotemporal masking. NeurIPS; arXiv 2409.19407.",
    "efron": "Efron (1987). Better bootstrap confidence intervals. Journal of the American Statistical Association "
    "82:171–185.",
    "finn": "Finn et al. (2015). Functional connectome fingerprinting: identifying individuals using patterns of brain "
    "connectivity. Nature Neuroscience 18:1664–1671.",
    "fortin": "Fortin et al. (2018). Harmonization of cortical thickness measurements across scanners and sites. "
    "NeuroImage 167:104–120.",
    "garrido": "Garrido et al. (2023). RankMe: assessing the downstream performance of pretrained self-supervised "
    "representations by their rank. ICML.",
    "he": "He et al. (2020). Deep neural networks and kernel regression achieve comparable accuracies for functional "
    "connectivity prediction of behavior and demographics. NeuroImage 206:116276.",
    "ilse": "Ilse, Tomczak & Welling (2018). Attention-based deep multiple instance learning. ICML.",
    "johnson": "Johnson, Li & Rabinovic (2007). Adjusting batch effects in microarray expression data using empirical "
    "Bayes methods. Biostatistics 8:118–127.",
    "pervaiz": "Pervaiz et al. (2020). Optimising network modelling methods for fMRI. NeuroImage 211:116604.",
    "phipson": "Phipson & Smyth (2010). Permutation p-values should never be zero. Statistical Applications in "
    "Genetics "
    "and Molecular Biology 9:39.",
    "westfall": "Westfall & Young (1993). Resampling-based multiple testing. Wiley.",
    "zeiler": "Zeiler & Fergus (2014). Visualizing and understanding convolutional networks. ECCV.",
    "winkler": "Winkler et al. (2014). Permutation inference for the general linear model. NeuroImage 92:381–397.",
}
SOURCE_OF_BASELINE = {"fc_kernel": "he", "tangent": "pervaiz"}
"""Baselines of probe results, and where they come from."""
CITATIONS = {"fc_kernel": " (He et al. 2020)", "tangent": " (Pervaiz et al. 2020)"}
"""How the text cites them."""
TOPICS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "rows": ("Rows", "", ()),
    "fitted": ("Fitted", "", ()),
    "adjust": ("Adjusted inside the folds", "", ()),
    "intervals": ("Intervals", "", ("efron",)),
    "comparisons": ("Comparisons", " (DeLong et al. 1988)", ("delong",)),
    "p": ("p values", " (Winkler et al. 2014; Phipson & Smyth 2010)", ("winkler", "phipson")),
    "p_adjusted": ("Adjusted p values", " (Benjamini & Hochberg 1995)", ("benjamini",)),
}
"""What results tell of how they were made: how the text names it, cites it, and the sources; the results name Efron."""

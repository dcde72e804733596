"""boldstream streams parcellated BOLD cohorts through brain encoders on Ray and traces every embedding in MLflow."""

__version__ = "0.1.0"

"""Regions of the brain: atlases by name, connectivity between regions, functional gradients."""

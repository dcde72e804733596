"""The doors between rooms: versioned tables with manifests, validated when read, published all at once. No science."""

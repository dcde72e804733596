"""Statistics on embeddings."""

"""Real node processes of one cluster, on one machine."""

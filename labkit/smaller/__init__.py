"""From masks to small and fast: what notebook 07 adds to the core."""

"""What you keep: one report of a migration, made from its journal and raw samples, and its recomputation."""

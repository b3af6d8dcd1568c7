"""The contract between a server and its callers, probed on both sides and joined with what callers really use."""

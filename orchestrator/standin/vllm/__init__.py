"""A stand-in for `vllm serve`: its command line, its start, its protocol, its ends; not its models."""

VERSION = "0.32.0"
FINGERPRINT = "vllm-0.32.0-53fd89e4"

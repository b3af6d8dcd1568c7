"""The parts of a rendered stack: commands, configuration files, the Compose file's context."""

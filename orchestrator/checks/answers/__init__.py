"""Answers of both sides, compared: suites of prompts, what each answer must hold, and what a difference proves."""

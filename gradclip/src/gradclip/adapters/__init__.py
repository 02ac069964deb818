"""Clippers in training frameworks: `lightning`, `huggingface`, `accelerate`, `ignite`. Each imports its framework."""

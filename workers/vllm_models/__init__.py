"""Model classes that vLLM lacks. Its own processes import them, and nobody else."""

"""Tests of the environment, the demo and what they ship."""

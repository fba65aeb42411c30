"""The stages: plain callables over Arrow tables. They know nothing of Ray."""

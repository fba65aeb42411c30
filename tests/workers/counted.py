"""A meter that a test can look into."""


class Counted:
    """What a stage says that it counted."""

    def __init__(self):
        self.counts, self.states = [], set()

    def add(self, stage, **counts):
        self.counts.append((stage, counts))

    def spent(self, stage, seconds):
        assert stage == "expand" and all(count >= 0 for count in seconds.values())
        self.states.update(seconds)

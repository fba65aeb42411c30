"""One of n equal shares of a job's documents, for n runs that write to one output side by side."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import JobError

_SPELLING = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*")


class Shard(BaseModel):
    """Shard `index` of `count`, counted from 1 as people count them: "3/16" is the third of sixteen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = Field(ge=1, description="Which one, from 1.")
    count: int = Field(ge=1, description="Of how many.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Shard:
        if self.index > self.count:
            raise ValueError(f"there is no shard {self.index} of {self.count}")
        return self

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard as it is written on the command line.

        Raises:
            JobError: it is not spelled index/count, or there is no such shard.
        """
        found = _SPELLING.fullmatch(text)
        if found is None:
            raise JobError(
                f"shard {text!r}: write index/count, such as 3/16 for the third of sixteen", key="shard"
            )
        index, count = int(found[1]), int(found[2])
        if count == 0:
            raise JobError(f"shard {text!r}: there is at least one shard, write 1/1 for all", key="shard")
        if index == 0:
            raise JobError(
                f"shard {text!r}: shards are counted from 1, write 1/{count} to {count}/{count}", key="shard"
            )
        if index > count:
            raise JobError(
                f"shard {text!r}: of {count} shards the last is {count}/{count}; index comes first",
                key="shard",
            )
        return cls(index=index, count=count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, document_ids: list[str]) -> list[bool]:
        """For each document whether it is in this shard.

        By its id alone, which is a hash of its address: the shares are equal, every listing divides
        alike, and no run has to know of the others.
        """
        return [int(name[:8], 16) % self.count == self.index - 1 for name in document_ids]

    def split(self, shares: int) -> list[Shard]:
        """This one as so many smaller ones, which hold the same documents between them."""
        return [
            Shard(index=self.index + share * self.count, count=self.count * shares) for share in range(shares)
        ]

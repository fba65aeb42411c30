"""Tables of a data lake that hold what the part files of an output hold.

The part files stay the ledger and the one truth: a run answers, publishes and settles as without tables, and
then brings each table to hold exactly the rows of its folder, in one commit.
"""

"""`gemstream doctor`: each check where all is well, and in each way that it is not."""

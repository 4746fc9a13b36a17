#!/usr/bin/python3
"""python_ranks.py FILE: Python ranks with mpi4py.  They pass a growing list round; at half way all wait for FILE."""
import os
import sys
import time

from mpi4py import MPI

world = MPI.COMM_WORLD
rank, ranks = world.Get_rank(), world.Get_size()
words = []
for turn in range(20):
    root = turn % ranks
    words = world.bcast(words + [f"{turn}:{rank}"] if rank == root else None, root=root)
    if turn == 10:
        if rank == 0:
            print("half way", flush=True)
        end = time.monotonic() + 120
        while not os.path.exists(sys.argv[1]) and time.monotonic() < end:
            time.sleep(0.01)
if rank == 0:
    print(" ".join(words), "sum", sum(range(len(words))), flush=True)

"""Claims about quality, each measured against what it is claimed to be better than."""

from corpusmith import environment

environment.share_cores()  # before anything here imports torch

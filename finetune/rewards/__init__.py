"""Rewards of replies: plain functions of a reply and its reference, judged in a process apart."""

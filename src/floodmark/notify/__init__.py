"""Notifications: how a run ended, for people and programs.

`facts` collects what happened, `message` says it, `channels` send it, `memory` keeps what was told when, and `job` does
all of that within a fixed time.
"""

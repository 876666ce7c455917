"""Polling triggers: what a worker looks at to know whether an execution is to start (decision 0026)."""

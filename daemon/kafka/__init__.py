"""The Kafka side of the daemon.

Its rooms build on one another: brokers, progress, publishing, intake, lanes; consumer.py stands before all.
"""

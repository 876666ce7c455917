"""The runner `io.kestra.plugin.ee.aws.runner.Batch`: one job of AWS Batch for each run.

    definition  pure: the job definition and the submission that are asked for, and what a job's description means
    api         the calls: each bounded in time, repeated while the service is away
    client      the run: claim, follow, fetch, clean up (decisions/0031)
    runner      what the worker knows of it: the type, and the check of its properties

The worker imports `runner` alone; the library, the extra `aws`, is loaded in the client's process.
"""

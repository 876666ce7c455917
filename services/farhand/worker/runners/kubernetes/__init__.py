"""The runner `io.kestra.plugin.ee.kubernetes.runner.Kubernetes`: one Job of a cluster for each run.

    manifest      pure: the Job that is asked for
    pod           pure: what a pod's state means, and what to do about it
    log_position  pure: where a broken log stream goes on
    api           the calls: each bounded in time, repeated while the server is away
    files         the working folder, in and out, by `exec`
    client        the run: claim the name, follow, fetch, clean up (decisions/0031)
    runner        what the worker knows of it: the type, and the check of its properties

The worker imports `runner` alone; the library, the extra `kubernetes`, is loaded in the client's process.
"""

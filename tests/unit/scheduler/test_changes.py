"""News of jobs: who watches is woken with what changed, and nobody is remembered afterwards."""

import asyncio

from farhand.scheduler.loops.changes import Changes


async def test_a_watch_tells_which_of_its_jobs_changed() -> None:
    changes = Changes()
    with changes.watch([1, 2, 3]) as watch, changes.watch([3, 4]) as other:
        changes.publish_jobs([1, 9])
        changes.publish_jobs([3])
        assert await watch.changed(5) == {1, 3}
        assert await other.changed(5) == {3}
        changes.publish_jobs([2])
        assert await watch.changed(5) == {2}
        assert not other.is_set()


async def test_a_watch_wakes_whoever_waits() -> None:
    changes = Changes()
    with changes.watch([1]) as watch:
        waits = asyncio.create_task(watch.changed(5))
        await asyncio.sleep(0)
        changes.publish_jobs([1])
        assert await waits == {1}


async def test_without_news_any_job_may_have_changed() -> None:
    with Changes().watch([1, 2]) as watch:
        assert await watch.changed(0) == {1, 2}


async def test_what_another_replica_did_may_be_any_job() -> None:
    changes = Changes()
    with changes.watch([1, 2]) as watch:
        changes.publish_all()
        assert await watch.changed(5) == {1, 2}


async def test_a_log_wakes_those_alone_who_read_it() -> None:
    changes = Changes()
    with changes.watch([1]) as job, changes.watch([1], logs=True) as log:
        changes.publish_log(1)
        assert log.is_set() and not job.is_set()


async def test_nothing_is_left_of_a_watch() -> None:
    changes = Changes()
    with changes.watch([1, 2], logs=True) as watch, changes.watch([1]):
        pass
    changes.publish_jobs([1])
    changes.publish_log(1)
    changes.publish_all()
    assert not watch.is_set()
    # Or a scheduler grows by every job that was ever waited for.
    assert not (changes._watches or changes._of_job or changes._of_log)

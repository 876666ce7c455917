"""Results of jobs that are long forgotten: a worker that was away for weeks must get rid of them."""

from tests.fixtures.scheduler_store import MeshStore


async def test_the_result_of_a_forgotten_job_is_stale(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g", worker="w")
    key = await mesh_store.a_job("g")
    [job] = await mesh_store.claim("g", session.id)
    for table in ("live", "job"):  # it was lost, ran elsewhere, and its retention is over
        await mesh_store.connection.execute(f"DELETE FROM scheduler.{table} WHERE key = $1", key)
    assert (await mesh_store.result(key, job.fence, "w")).status == "STALE"  # or it would be sent for ever


async def test_a_result_from_a_future_that_a_restored_database_does_not_know_is_kept(mesh_store: MeshStore) -> None:
    await mesh_store.a_session("g", worker="w")
    last = await mesh_store.a_job("g")
    assert (await mesh_store.result(last + 1, 1, "w")).status == "UNKNOWN"

"""The README's flow with a loop, as a user runs it: saved, explained, refused for wrong inputs, followed, read."""

import json
import re
from pathlib import Path

from tests.fixtures.command_line import farhand
from tests.fixtures.mesh import Mesh

README = Path(__file__).parents[2] / "README.md"


def example(id: str) -> str:
    """The flow of the README that has this id."""
    [found] = [block for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S) if f"id: {id}\n" in block]
    return str(found)


async def test_the_loop_of_the_readme_runs_as_it_says(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.start(workers=["", "gpu"])
    where = {"FARHAND_REGISTRY": mesh.registries[0].address, "FARHAND_SCHEDULER": mesh.schedulers[0].address}
    file = tmp_path / "sweep.yaml"
    file.write_text(example("sweep"))
    assert (await farhand("flow", "create", file, **where)).exit_code == 0
    said = await farhand("flow", "explain", "company.team/sweep", "--output", "json", **where)
    assert [task["task_id"] for task in json.loads(said.out)] == ["each", "train", "note", "choose", "publish", "keep"]

    wrong = await farhand(
        *("execution", "create", "company.team/sweep", "--input", "rates=[0.1, fast]", "--input", "on=gpuu"), **where
    )
    assert wrong.exit_code == 1
    assert "inputs.rates" in wrong.err and "is no JSON" in wrong.err
    assert "must be one of 'cpu', 'gpu', not 'gpuu'. Did you mean 'gpu'?" in wrong.err

    run = ("execution", "create", "company.team/sweep", "--follow")
    said = await farhand(*run, "--input", f"rates={list(range(7))}", "--input", "on=gpu", **where)
    assert said.exit_code == 0, said.all
    assert "train[6] | training models/sweep-gpu at 6\n" in said.out
    assert "note[2] | round 2: 2\n" in said.out
    assert "publish | published models/sweep-gpu: 0 to 6\n" in said.out
    assert "farhand: each SUCCESS: 7 rounds\n" in said.err and "train[0]" not in said.err  # the many have no lines
    [id] = set(re.findall(r"execution (x\w{13})", said.err))
    tree = (await farhand("execution", "get", id, **where)).out
    assert re.search(r"^each +SUCCESS .* 7 rounds$", tree, re.M), tree
    assert re.search(r"^  train\[6\] +SUCCESS +_default ", tree, re.M), tree
    assert re.search(r"^  … 2 more rounds$", tree, re.M), tree
    assert re.search(r"^choose +SUCCESS .* gpu$", tree, re.M) and "publish" in tree and "keep" not in tree

    said = await farhand(*run, "--output", "json", **where)
    runs = json.loads(said.out)["task_runs"]
    assert [(run["task_id"], run.get("iteration", "")) for run in runs if run["task_id"] in ("train", "keep")] == [
        ("train", "0"),
        ("train", "1"),
        ("keep", ""),
    ]

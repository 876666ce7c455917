"""farhand apply on a real registry: a folder is applied, applied again, changed, and pruned.

1. A dry run says what would be, and nothing is.
2. The folder is applied: a tenant and a group that name one another, a namespace, a flow, files.
3. Applied again, all is unchanged; as JSON too.
4. A file, a flow and a group change; a flow's mistake stops it all before anything is changed.
5. With --prune, what the folder has no more is gone, the tenant's group with it.
"""

import json
from pathlib import Path

from farhand.api.registry.v1.tenant_service_pb2 import GetTenantRequest
from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh

FOLDER = {
    "tenants/main.yaml": "id: main\ndescription: The default tenant\n",
    "tenants/research.yaml": "id: research\ndefaultWorkerGroup: gpu\ndefault_fallback: fail\n",
    "worker-groups/all.yaml": "key: gpu\nallowed_tenants: [research]\n---\nkey: old\nlease: 2m\n",
    "namespaces/company.yaml": """\
name: company.team
default_worker_group: gpu
plugin_defaults:
  - type: io.kestra.plugin.core.log
    values: {message: hello}
""",
    "flows/nested/nightly.yaml": """\
id: nightly
namespace: company.team
tasks:
  - id: greet
    type: io.kestra.plugin.core.log.Log
    workerGroup: {key: gpu}
""",
    "files/company.team/main.py": "print(1)\n",
    "files/company.team/data/a.csv": "a,b\n",
    "README.md": "what nobody looks at\n",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


async def test_a_folder_is_applied_once_changed_and_pruned(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.start(workers=[])
    root = tmp_path / "folder"
    write(root, FOLDER)

    async def apply(*flags: str) -> Said:
        registry, scheduler = mesh.registries[0].address, mesh.schedulers[0].address
        servers = {"FARHAND_REGISTRY": registry, "FARHAND_SCHEDULER": scheduler}
        return await farhand("apply", "-f", root, "--tenant", "research", *flags, **servers)

    async def actions() -> dict[str, str]:
        said = await apply("--dry-run", "--prune", "--output", "json")
        assert said.exit_code == 0, said.all
        return {f"{each['kind']} {each['name']}": each["action"] for each in json.loads(said.out)}

    planned = await apply("--dry-run")
    assert (planned.exit_code, "7 to create, 1 unchanged." in planned.err) == (0, True), planned.all
    assert "allowed_tenants: research" in planned.out
    assert (await actions())["worker_group gpu"] == "create"

    applied = await apply()
    assert applied.exit_code == 0, applied.all
    lines = applied.err.splitlines()
    assert lines[1:4] == ["created worker group gpu", "created worker group old", "created tenant research"]
    assert "created flow company.team/nightly" in lines and lines[-1] == "All is applied."
    tenant = (await mesh.tenants.GetTenant(GetTenantRequest(id="research"))).tenant
    assert tenant.default_worker_group == "gpu"

    again = await apply("--prune")
    assert (again.exit_code, again.out, again.err) == (0, "", "All is unchanged: 8 in the folder.\n")
    assert set((await actions()).values()) == {"unchanged"}

    write(root, {"files/company.team/main.py": "print(2)\n", "worker-groups/all.yaml": "key: gpu\nlease: 2m\n"})
    write(root, {"flows/nested/nightly.yaml": FOLDER["flows/nested/nightly.yaml"].replace("gpu", "old")})
    wrong = await apply("--prune")
    assert wrong.exit_code == 1
    assert f"{root}/flows/nested/nightly.yaml:6:24: error: the worker group 'old' is being deleted" in wrong.err

    write(root, {"flows/nested/nightly.yaml": FOLDER["flows/nested/nightly.yaml"] + "description: new\n"})
    assert (await actions())["worker_group gpu"] == "change", "nothing of it was changed before"
    changed = await apply()
    assert changed.exit_code == 0, changed.all
    assert "allowed_tenants: research -> all; lease: 1m -> 2m" in changed.out
    assert "revision 1 -> 2: +1 -0 lines" in changed.out
    assert (await actions())["worker_group old"] == "delete"

    (root / "namespaces/company.yaml").unlink()
    (root / "flows/nested/nightly.yaml").unlink()
    (root / "files/company.team/data/a.csv").unlink()
    pruned = await apply("--prune")
    assert pruned.exit_code == 0, pruned.all
    assert pruned.err.splitlines()[1:-1] == [
        "deleted flow company.team/nightly",
        "deleted file company.team/data/a.csv",
        "deleted namespace company.team",
        "deleted worker group old",
    ]
    assert set((await actions()).values()) == {"unchanged"}

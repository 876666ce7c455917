"""A JobSpec in a YAML or JSON file, as `farhand job submit -f` takes it.

The names are those of job.proto. Durations may be written as people do (10m), a fallback as
`fail`, and the worker group's id `_default` names the default group.
"""

from typing import TYPE_CHECKING, Any

from farhand.cli import yaml_file
from farhand.cli.failure import WrongUse
from farhand.kernel.durations import parse_duration
from farhand.kernel.resolution import Fallback

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_pb2 import JobSpec


def read(name: str) -> "JobSpec":
    """The spec in a file; "-" is stdin. WrongUse says what is wrong with it, and where."""
    data = yaml_file.read(name)
    if not isinstance(data, dict):
        raise WrongUse(f"{name} must hold one job: a mapping with `task` in it.")
    return spec_of(data, name)


def spec_of(data: dict[str, Any], name: str) -> "JobSpec":
    """The spec for a document."""
    from google.protobuf.json_format import ParseDict, ParseError

    from farhand.api.scheduler.v1.job_pb2 import JobSpec

    spec = JobSpec()
    yaml_file.check_fields(f"{name}: the job", data, spec)
    data = dict(data)
    if isinstance(fallback := data.get("fallback"), str) and fallback.upper() in list(Fallback):
        data["fallback"] = f"FALLBACK_{fallback.upper()}"
    if isinstance(task := data.get("task"), dict):
        yaml_file.check_fields(f"{name}: task", task, spec.task)
        if isinstance(timeout := task.get("timeout"), str | int | float):
            try:
                data["task"] = task | {"timeout": f"{parse_duration(str(timeout)):.9f}s"}
            except ValueError as error:
                raise WrongUse(f"{name}: task.timeout: {error}.") from None
    else:
        raise WrongUse(f"{name}: there is no task: say `task: {{type: …, properties: {{…}}}}`.")
    try:
        return ParseDict(data, spec)
    except (ParseError, ValueError, TypeError) as error:
        raise WrongUse(f"{name} is not a job: {error}") from None

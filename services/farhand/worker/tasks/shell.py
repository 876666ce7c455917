"""io.kestra.plugin.scripts.shell.Commands: shell commands in a working folder of their own.

The commands become one script, handed to the interpreter as one argument:
`/bin/sh -c "set -e\\nfirst\\nsecond"`. Its exit code decides. Standard output and
error are the log; lines of outputs (output_lines.py) are the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.worker.process_control import ProcessStartError
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import Outcome, OutcomeState, TaskContext, failed
from farhand.worker.tasks.output_lines import OUTPUT_LIMIT, OutputLines

PROCESS_RUNNER = "io.kestra.plugin.core.runner.Process"

LONGEST_ARGUMENT = 128 * 1024 - 1  # bytes; Linux's MAX_ARG_STRLEN with its NUL

_KNOWN = frozenset({"commands", "beforeCommands", "env", "interpreter", "failFast", "taskRunner"})


class ShellCommands:
    """Runs commands by a shell."""

    type: ClassVar[str] = "io.kestra.plugin.scripts.shell.Commands"

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """All that is wrong: unknown names, wrong types, a script that is too long for one argument."""
        violations = check.unknown_properties(self.type, properties, _KNOWN)
        violations += check.strings("commands", properties.get("commands"), required=True)
        violations += check.strings("beforeCommands", properties.get("beforeCommands"))
        violations += check.strings("interpreter", properties.get("interpreter"))
        if properties.get("interpreter") == []:
            violations.append(Violation("interpreter", "must not be empty"))
        violations += check.boolean("failFast", properties.get("failFast"))
        violations += check.environment("env", properties.get("env"))
        violations += _check_runner(properties.get("taskRunner"))
        if not violations and (size := len(script(properties).encode())) > LONGEST_ARGUMENT:
            violations.append(
                Violation(
                    "commands",
                    f"are {size} bytes together; Linux takes {LONGEST_ARGUMENT} in one argument: put them in a file",
                )
            )
        return violations

    async def run(self, context: TaskContext) -> Outcome:
        """SUCCESS with exit code 0, else FAILED; the outputs are kept either way."""
        properties = context.properties
        # What tells the run who it is comes last: a fence that a task could set would guard nothing.
        env = {name: check.variable(value) for name, value in (properties.get("env") or {}).items()} | dict(context.env)
        interpreter = properties.get("interpreter") or ["/bin/sh", "-c"]
        lines = OutputLines(context.log)
        try:
            exit_code = await context.run_process([*interpreter, script(properties)], env=env, on_stdout=lines.take)
        except ProcessStartError as error:
            context.log(error.message)
            return failed("START_FAILED", error.message)
        outputs = {"exitCode": exit_code, "vars": lines.vars}
        if lines.size > OUTPUT_LIMIT:
            message = f"the outputs are {lines.size} bytes; {OUTPUT_LIMIT} are allowed: write large data to a file"
            context.log(message)
            return failed("OUTPUT_TOO_LARGE", message, exit_code=exit_code, outputs={"exitCode": exit_code})
        if exit_code == 0:
            return Outcome(OutcomeState.SUCCESS, exit_code, outputs)
        how = f"exit code {exit_code}" if exit_code > 0 else f"signal {-exit_code}"
        return failed("NONZERO_EXIT", f"the commands ended with {how}", exit_code=exit_code, outputs=outputs)


def script(properties: Mapping[str, Any]) -> str:
    """The one argument for the interpreter."""
    fail_fast = properties.get("failFast")
    first = ["set -e"] if fail_fast is None or fail_fast else []
    return "\n".join([*first, *(properties.get("beforeCommands") or []), *properties["commands"]])


def _check_runner(value: Any) -> list[Violation]:
    if value is None:
        return []
    if not isinstance(value, dict):
        return [Violation("taskRunner", f"must be a map with a type, not {kind(value)}")]
    violations = []
    if value.get("type") != PROCESS_RUNNER:
        violations.append(Violation("taskRunner.type", f"this worker knows one runner, {PROCESS_RUNNER}"))
    violations += [Violation(f"taskRunner.{name}", "is not known") for name in value if name != "type"]
    return violations

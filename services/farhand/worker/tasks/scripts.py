"""What the types that run scripts share: a shell, an environment, the log, the outputs.

The commands become one script, handed to the interpreter as one argument:
`/bin/sh -c "set -e\\nfirst\\nsecond"`. Its exit code decides. Standard output and
error are the log; lines of outputs (output_lines.py) are the result. Files come in
before and go out after (files.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.process_control import ProcessStartError
from farhand.worker.runners import TaskRunner
from farhand.worker.runners.registry import TaskRunners
from farhand.worker.tasks import files
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import Level, Outcome, OutcomeState, RunBy, TaskContext, failed
from farhand.worker.tasks.output_limit import OUTPUT_LIMIT, too_large
from farhand.worker.tasks.output_lines import OutputLines

LONGEST_ARGUMENT = 128 * 1024 - 1  # bytes; Linux's MAX_ARG_STRLEN with its NUL

_SHARED = frozenset({"beforeCommands", "env", "interpreter", "failFast", "containerImage", "taskRunner"})


class ScriptTask:
    """A type that runs a script. A subclass says what the property is that holds it, and what is run around it."""

    type: ClassVar[str]
    source: ClassVar[str] = "commands"
    env: ClassVar[Mapping[str, str]] = {}  # variables that a task may set otherwise

    def __init__(self, runners: TaskRunners) -> None:
        self._runners = runners

    # ── what subclasses may say ──

    def check_source(self, value: Any) -> list[Violation]:
        """What is wrong with the property that holds the script."""
        return check.strings(self.source, value, required=True)

    def prelude(self) -> Sequence[str]:
        """Lines of shell before everything else, where the interpreter is this machine's usual shell."""
        return ()

    def lines(self, source: Any) -> Sequence[str]:
        """The lines for the interpreter that do the work."""
        return list(check.structured(source))

    def prepare(self, context: TaskContext) -> None:
        """Write what the lines need into the run's folder."""

    # ── what they share ──

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """All that is wrong: unknown names, wrong types, a script that is too long for one argument."""
        violations = check.unknown_properties(self.type, properties, _SHARED | files.KNOWN | {self.source})
        violations += self.check_source(properties.get(self.source))
        violations += check.strings("beforeCommands", properties.get("beforeCommands"))
        violations += check.strings("interpreter", properties.get("interpreter"))
        if check.structured(properties.get("interpreter")) == []:
            violations.append(Violation("interpreter", "must not be empty"))
        violations += check.boolean("failFast", properties.get("failFast"))
        violations += check.environment("env", properties.get("env"))
        violations += check.string("containerImage", properties.get("containerImage"))
        image = str(properties.get("containerImage") or "")
        violations += self._runners.violations(check.structured(properties.get("taskRunner")), image)
        violations += files.violations_of(properties)
        if not violations and (size := len(self.script(properties).encode())) > LONGEST_ARGUMENT:
            violations.append(
                Violation(
                    self.source,
                    f"{'is' if self.source == 'script' else 'are'} {size} bytes together; "
                    f"Linux takes {LONGEST_ARGUMENT} in one argument: put them in a file",
                )
            )
        return violations

    async def run(self, context: TaskContext) -> Outcome:
        """SUCCESS with exit code 0, else FAILED; the outputs are kept either way."""
        properties = context.properties
        own = check.structured(properties.get("env")) or {}
        # What tells the run who it is comes last: a fence that a task could set would guard nothing.
        env = {**self.env, **{name: check.variable(value) for name, value in own.items()}, **context.env}
        interpreter = check.structured(properties.get("interpreter")) or ["/bin/sh", "-c"]
        lines = OutputLines(context.log)
        try:
            await files.bring_in(context)
        except files.InputFilesFailed as error:
            context.log(str(error), Level.ERROR)
            return failed("INPUT_FILES_FAILED", str(error))
        self.prepare(context)
        try:
            end = await context.run_command(
                [*interpreter, self.script(properties)], env=env, by=self._by(properties), on_stdout=lines.take
            )
        except ProcessStartError as error:
            context.log(error.message, Level.ERROR)
            return failed("START_FAILED", error.message)
        if end.exit_code is None:
            context.log(end.why, Level.ERROR)
            return failed(end.reason, end.why, outputs={"vars": lines.vars} if lines.vars else {})
        outputs: dict[str, Any] = {"exitCode": end.exit_code, "vars": lines.vars, "outputFiles": {}}
        outcome = Outcome(OutcomeState.SUCCESS, end.exit_code, outputs)
        if lines.size > OUTPUT_LIMIT:
            outcome = too_large(lines.size, outcome)
            context.log(outcome.message, Level.ERROR)
            return outcome
        try:
            outputs["outputFiles"] = await files.hand_out(context)
        except files.OutputFilesFailed as error:
            context.log(str(error), Level.ERROR)
            outcome = replace(outcome, state=OutcomeState.FAILED, reason="OUTPUT_FILES_FAILED", message=str(error))
        if end.reason:
            context.log(end.why, Level.ERROR)
            return replace(outcome, state=OutcomeState.FAILED, reason=end.reason, message=end.why)
        if end.exit_code == 0:
            return outcome
        how = f"exit code {end.exit_code}" if end.exit_code > 0 else f"signal {-end.exit_code}"
        message = f"the {self.source} ended with {how}"
        return replace(outcome, state=OutcomeState.FAILED, reason="NONZERO_EXIT", message=message)

    def script(self, properties: Mapping[str, Any]) -> str:
        """The one argument for the interpreter."""
        first = ["set -e"] if check.truth(properties.get("failFast"), True) else []
        usual = properties.get("interpreter") is None and self._runner(properties).local
        prelude = self.prelude() if usual else ()
        before = check.structured(properties.get("beforeCommands")) or []
        return "\n".join([*first, *prelude, *before, *self.lines(properties[self.source])])

    def _runner(self, properties: Mapping[str, Any]) -> TaskRunner:
        return self._runners.chosen(check.structured(properties.get("taskRunner")))

    def _by(self, properties: Mapping[str, Any]) -> RunBy:
        return RunBy(
            self._runner(properties),
            check.structured(properties.get("taskRunner")) or {},
            str(properties.get("containerImage") or ""),
            check.structured(properties.get("outputFiles")) or (),
        )

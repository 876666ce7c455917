"""A worker's slots against a scheduler that keeps to its credit, under every order of events.

Whatever comes in whatever order: never more is held than there are slots (P7), a
cancelled assignment never starts, one job never runs twice at once, a result
leaves only when it is settled or refused, and hello tells exactly what is held.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from farhand.worker.core.slots import LIVING, OCCUPYING, Effect, Event, JobKey, Phase, Slots

JOBS = [f"job-{n}" for n in range(4)]


class SlotsMachine(RuleBasedStateMachine):
    sent = Bundle("sent")  # assignments that the scheduler made, and that may still arrive

    @initialize(slots=st.integers(1, 4))
    def begin(self, slots: int) -> None:
        self.worker = Slots(slots)
        self.fence = 0
        self.made = 0  # assignments made in this session
        self.cancelled: set[JobKey] = set()  # cancels that came before their assignment started
        self.finished: set[JobKey] = set()
        self.limit = 0
        self.session = 1

    # ── the scheduler ──

    @rule(target=sent, job=st.sampled_from(JOBS))
    def assign(self, job: str) -> object:
        if self.made >= self.limit:
            return multiple()
        self.made += 1
        self.fence += 1
        return ((job, self.fence), self.session)

    @rule(assignment=consumes(sent))
    def arrives(self, assignment: tuple[JobKey, int]) -> None:
        key, session = assignment
        if session != self.session:
            return  # of an older epoch: dropped before it comes here
        received = self.worker.receive([key])
        for cancelled in received.cancelled:
            self._ended(cancelled, Event.ENDED)

    @rule(assignment=sent)
    def cancel(self, assignment: tuple[JobKey, int]) -> None:
        key, session = assignment
        if session != self.session:
            return
        if self.worker.phase(key) in (None, Phase.RECEIVED):
            self.cancelled.add(key)
        if Effect.CONCLUDE_KILLED in self.worker.cancel(key):
            self._ended(key, Event.ENDED)

    @rule(data=st.data(), event=st.sampled_from([Event.SETTLED, Event.UNSETTLED]))
    def acknowledge(self, data: st.DataObject, event: Event) -> None:
        if finished := self.worker.holding(Phase.FINISHED):
            key = data.draw(st.sampled_from(finished))
            effects = self.worker.apply(key, event)
            if event is Event.SETTLED:
                assert effects == (Effect.FORGET_RESULT,)
                self.finished.discard(key)

    @rule(data=st.data())
    def new_session(self, data: st.DataObject) -> None:
        """The stream broke: what was under way is lost, and each held job gets a verdict."""
        self.worker.redial()
        self.session += 1
        self.made = 0
        self.limit = 0
        self.cancelled.clear()
        assert self.worker.credit() == 0
        for key in list(self.worker.inventory()):
            verdict = data.draw(st.sampled_from([Event.KEEP, Event.STOP, Event.RESEND]))
            effects = self.worker.apply(key, verdict)
            if Effect.FORGET_RESULT in effects:
                self.finished.discard(key)
        self.worker.welcomed = True

    # ── the worker ──

    @rule()
    def start(self) -> None:
        for key in self.worker.start():
            assert key not in self.cancelled, "a cancelled assignment started"

    @rule(data=st.data(), event=st.sampled_from([Event.ENDED, Event.FENCED]))
    def ends(self, data: st.DataObject, event: Event) -> None:
        if living := self.worker.holding(*LIVING):
            self._ended(data.draw(st.sampled_from(living)), event)

    @rule()
    def lease_runs_out(self) -> None:
        self.worker.apply_to_all(Event.EXPIRE)
        # The next thing that happens is a new session; nothing of the old one counts.
        self.made = self.limit

    @rule(draining=st.booleans(), pressure=st.booleans())
    def hold_back(self, draining: bool, pressure: bool) -> None:
        self.worker.draining |= draining
        self.worker.pressure = pressure

    @rule()
    def tell_credit(self) -> None:
        limit = self.worker.credit()
        assert limit >= self.limit, "the limit fell"
        self.limit = limit

    def _ended(self, key: JobKey, event: Event) -> None:
        effects = self.worker.apply(key, event)
        if Effect.SEND in effects:
            assert event is Event.ENDED, "a result of a run that was fenced"
            self.finished.add(key)

    # ── what always holds ──

    @invariant()
    def never_more_than_the_slots(self) -> None:
        if hasattr(self, "worker"):
            assert self.worker.busy <= self.worker.slots
            assert self.worker.busy == len(self.worker.holding(*OCCUPYING))

    @invariant()
    def one_run_of_a_job_at_most(self) -> None:
        if hasattr(self, "worker"):
            living = [job for job, _ in self.worker.holding(*LIVING)]
            assert len(living) == len(set(living))

    @invariant()
    def results_are_here_until_they_are_settled(self) -> None:
        if hasattr(self, "worker"):
            assert self.finished == set(self.worker.holding(Phase.FINISHED))


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

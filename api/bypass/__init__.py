"""The teacher bypass: which transactions the teacher is asked about, and what holds when it does not answer.

    policies, customer_classes    what wants the teacher
    budget, breaker               when it is not asked although it is wanted
    teachers                      who answers: the bundle's own, another riskdistill, any Open Inference endpoint
    open_inference                the wire form, of both ends
    teacher_bypass                all of it, in the order in which a transaction meets it
    metrics, settings             what operators see and set

The teacher is an optional part: whatever it does, a transaction is decided within its deadline, and one that does
not want it never waits for it.
"""

from api.bypass.teacher_bypass import TeacherBypass, Verdict, Wanted, by_failure, by_student, make_bypass

__all__ = ["TeacherBypass", "Verdict", "Wanted", "by_failure", "by_student", "make_bypass"]

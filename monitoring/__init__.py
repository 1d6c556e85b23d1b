"""What happens to a model that serves: is it still what was accepted, does it do harm, who let it serve and why.

    profile, segments, categories             what the reference period looked like
    drift, distance, domain, heat             how far a window is from that
    labels, label_check, maturity             what is known of decisions, since when, and whether to trust it
    performance, estimates                    how good the decisions are, before labels come and after
    sequential, evidence, case, service_level harm of the champion, by tests that may be looked at at any time
    rollback, alarms, shadow, drills          who acts, who calls a person, and whether they would find a fault
    notices, webhook, watch_metrics           whom it is told to
    release_report, audit                     what the logs say of a release or a period
    pages, …_page                             the same for people

It meets the service only through stored decisions, labels and releases.
"""

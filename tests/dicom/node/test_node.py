"""A node from end to end: what comes in is predicted once, and answered once."""


def test_a_study_is_answered(running, node_settings, study, send_to, pacs, eventually, counts, uid_of_answer):
    uid, files = study(slices=4, series=2)
    settings = node_settings()
    with running(settings):
        send_to(settings, files)
        eventually(lambda: counts(settings) == {"answered": 1})
    assert sorted(pacs.received) == sorted(uid_of_answer(f"{uid}.{part}") for part in (1, 2))
    assert pacs.callers == {"ATTUNET"}
    assert pacs.read(uid_of_answer(f"{uid}.1")).ImageComments == "4 instances, organs"
    assert not list((settings.state / "outbox").iterdir())

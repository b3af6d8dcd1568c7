from demo.figures import Phase, last_on_vllm, live, reaction, table

PHASES = [Phase("before", 100.0, 110.0), Phase("up", 110.0, 120.0)]


def asked(at, side="ollama", version=1, **more):
    return {"ts": at, "side": side, "version": version, "forced": False, "method": "POST", **more}


def test_each_request_is_counted_once_in_the_phase_in_which_it_began():
    clients = [
        {"at": 100.0, "outcome": "complete"}, {"at": 109.999, "outcome": "error"}, {"at": 110.0, "outcome": "complete"},
        {"at": 119.9, "outcome": "truncated"}, {"at": 115.0, "outcome": "refused"}, {"at": 120.0, "outcome": "complete"},
    ]
    log = [asked(105.0), asked(110.0), asked(111.0, "vllm"), asked(112.0, "vllm", forced=True), asked(99.0)]
    assert table(PHASES, clients, log) == [
        ["before", "2", "1", "1", "0", "0", "1", "-"],
        ["up", "3", "1", "0", "1", "1", "1", "1"],
    ]


def test_a_phase_without_requests_is_still_a_row():
    assert table(PHASES[:1], [], []) == [["before", "0", "0", "0", "0", "0", "-", "-"]]


def test_only_what_clients_asked_is_live():
    kept = asked(1.0)
    assert live([kept, asked(1.0, forced=True), asked(1.0, method="GET")]) == [kept]


def test_the_reaction_to_a_change_is_the_first_request_routed_by_it():
    changes = [{"at": 10.0, "version": 2, "text": "10 %"}, {"at": 20.0, "version": 3, "text": "50 %"},
               {"at": 30.0, "version": 9, "text": "100 %"}]
    log = [
        asked(10.5, version=1), asked(10.75, version=2), asked(20.25, version=3), asked(21.0, version=3),
        asked(10.6, version=2, forced=True), asked(10.6, version=None),
    ]
    assert reaction(changes, log) == [("10 %", 0.75), ("50 %", 0.25), ("100 %", None)]


def test_a_request_that_began_while_the_weight_was_being_set_took_no_time():
    assert reaction([{"at": 10.0, "version": 2, "text": "x"}], [asked(9.99, version=2)]) == [("x", 0.0)]


def test_the_last_new_request_on_vllm_after_a_rollback():
    log = [asked(9.0, "vllm"), asked(10.1, "vllm"), asked(10.25, "vllm"), asked(11.0), asked(20.0, "vllm"),
           asked(10.9, "vllm", forced=True)]
    assert last_on_vllm(log, 10.0, 20.0) == 0.25
    assert last_on_vllm(log, 10.5, 20.0) is None

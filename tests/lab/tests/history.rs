//! The checkers, against histories written by hand and against definitions so plain that
//! they can be seen to be right; and the pictures.

mod own_server;

use std::time::{Duration, Instant};

use lab::faults::{Action, Proxy, Trigger};
use lab::history::*;
use own_server::Server;
use proptest::prelude::*;
use proptest::sample::select;
use redis::aio::MultiplexedConnection;

/// A history by hand: actor, what, message, one event a millisecond.
fn history(events: &[(&str, What, &str)]) -> Vec<Event> {
    events
        .iter()
        .enumerate()
        .map(|(i, (actor, what, id))| Event {
            at: Duration::from_millis(i as u64 + 1),
            actor: (*actor).to_owned(),
            what: what.clone(),
            id: (*id).to_owned(),
            detail: String::new(),
        })
        .collect()
}

fn started(deliveries: u64) -> What {
    What::Started { deliveries }
}

fn delivered(deliveries: u64) -> What {
    What::Delivered { deliveries }
}

fn fault() -> What {
    What::Fault("killed".into())
}

#[track_caller]
fn valid(verdict: Verdict) {
    assert_eq!(verdict, Verdict::Valid);
}

#[track_caller]
fn unknown(verdict: Verdict) {
    assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict:?}");
}

#[track_caller]
fn violated(verdict: Verdict, name: &str, events: &[usize], explanation: &str) {
    let Verdict::Violated(anomaly) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(anomaly.name, name);
    assert_eq!(anomaly.events, events, "{}", anomaly.explanation);
    assert_eq!(anomaly.explanation, explanation);
}

use What::*;

#[test]
fn every_message_ends_somewhere() {
    let good = history(&[
        ("p", Sent, "1-0"),
        ("p", Sent, "2-0"),
        ("p", Sent, "3-0"),
        ("broker", Acknowledged, "1-0"),
        ("broker", DeadLettered, "2-0"),
        ("queue", Dropped, "3-0"),
    ]);
    valid(nothing_lost(&good));
    unknown(nothing_lost(&good[3..]));
    unknown(nothing_lost(&[]));
    violated(
        nothing_lost(&good[..5]),
        "lost message",
        &[2],
        "entry 3-0 was sent at 3.0 ms and never heard of again: neither acknowledged nor dead-lettered",
    );
    violated(
        nothing_lost(&history(&[
            ("p", Sent, "1-0"),
            ("p", Sent, "2-0"),
            ("w", Failed, "1-0"),
        ])),
        "lost message",
        &[0, 2],
        "entry 1-0 was sent at 1.0 ms and last seen at 3.0 ms (failed): neither acknowledged nor dead-lettered (1 more like it)",
    );
}

#[test]
fn what_happened_out_of_sight_is_not_called_lost_unless_the_broker_still_has_it() {
    let script = Hidden("EVAL names the stream".into());
    let hidden = [("p", Sent, "1-0"), ("broker", script.clone(), "")];
    unknown(nothing_lost(&history(&hidden)));
    let other = [("p", Sent, "1-0"), ("broker", script.clone(), "2-0")];
    assert!(matches!(
        nothing_lost(&history(&other)),
        Verdict::Violated(_)
    ));
    let pending = [
        ("p", Sent, "1-0"),
        ("broker", script, ""),
        ("broker", Pending, "1-0"),
    ];
    violated(
        nothing_lost(&history(&pending)),
        "unfinished message",
        &[0, 2],
        "entry 1-0 was sent at 1.0 ms and is still pending at the end: neither acknowledged nor dead-lettered",
    );
}

#[test]
fn a_message_is_done_or_given_up_but_not_both() {
    let bad = history(&[
        ("broker", Acknowledged, "1-0"),
        ("broker", DeadLettered, "2-0"),
        ("broker", DeadLettered, "1-0"),
    ]);
    valid(never_both(&bad[..2]));
    unknown(never_both(&[]));
    violated(
        never_both(&bad),
        "settled twice",
        &[0, 2],
        "entry 1-0 was acknowledged at 1.0 ms and dead-lettered at 3.0 ms",
    );
}

#[test]
fn an_effect_happens_once() {
    let bad = history(&[
        ("a", Effect, "1-0"),
        ("a", Effect, "2-0"),
        ("b", Effect, "1-0"),
    ]);
    valid(no_duplicate_effect(&bad[..2]));
    unknown(no_duplicate_effect(&[]));
    violated(
        no_duplicate_effect(&bad),
        "duplicate effect",
        &[0, 2],
        "entry 1-0 had its effect at 1.0 ms by a and once more at 3.0 ms by b",
    );
}

#[test]
fn success_comes_before_the_acknowledgement() {
    let start = ("w", started(1), "17-0");
    let ack = ("broker", Acknowledged, "17-0");
    let done = ("w", Succeeded, "17-0");
    let name = "acknowledged before success";
    valid(acknowledged_only_after_success(&history(&[
        start.clone(),
        done.clone(),
        ack.clone(),
    ])));
    unknown(acknowledged_only_after_success(&history(
        std::slice::from_ref(&start),
    )));
    unknown(acknowledged_only_after_success(&history(
        std::slice::from_ref(&ack),
    )));
    violated(
        acknowledged_only_after_success(&history(&[start.clone(), ack.clone(), done])),
        name,
        &[1, 2],
        "entry 17-0 was acknowledged at 2.0 ms, before its handler succeeded at 3.0 ms",
    );
    violated(
        acknowledged_only_after_success(&history(&[
            start.clone(),
            ("w", Failed, "17-0"),
            ack.clone(),
        ])),
        name,
        &[1, 2],
        "entry 17-0 was acknowledged at 3.0 ms, although its handler had failed at 2.0 ms",
    );
    violated(
        acknowledged_only_after_success(&history(&[start.clone(), ack.clone()])),
        name,
        &[0, 1],
        "entry 17-0 was acknowledged at 2.0 ms, while its handler, started at 1.0 ms, had not succeeded",
    );
    violated(
        acknowledged_only_after_success(&history(&[("w", started(1), "16-0"), ack])),
        name,
        &[1],
        "entry 17-0 was acknowledged at 2.0 ms, although no handler had run",
    );
}

#[test]
fn one_key_is_started_in_the_order_in_which_it_was_sent() {
    let mut events = history(&[
        ("p", Sent, "1-0"),
        ("p", Sent, "2-0"),
        ("w", started(1), "2-0"),
        ("w", started(1), "1-0"),
    ]);
    violated(
        in_order_per_key(&events),
        "out of order",
        &[0, 1, 2, 3],
        "w started 2-0 at 3.0 ms and 1-0 only at 4.0 ms, but 1-0 was sent first",
    );
    // Keys of their own, or subscribers of their own, have no order between them.
    events[0].detail = "apples".into();
    unknown(in_order_per_key(&events));
    events[0].detail.clear();
    events[3].actor = "v".into();
    unknown(in_order_per_key(&events));
    // A redelivery is no disorder.
    valid(in_order_per_key(&history(&[
        ("p", Sent, "1-0"),
        ("p", Sent, "2-0"),
        ("w", started(1), "1-0"),
        ("w", started(1), "2-0"),
        ("w", started(2), "1-0"),
    ])));
    // Who is quick may start before the producer has said that it sent.
    valid(in_order_per_key(&history(&[
        ("w", started(1), "1-0"),
        ("p", Sent, "1-0"),
        ("p", Sent, "2-0"),
        ("w", started(1), "2-0"),
    ])));
}

#[test]
fn no_more_than_so_many_are_in_flight() {
    let bad = history(&[
        ("w", delivered(1), "1-0"),
        ("w", started(1), "1-0"),
        ("w", delivered(1), "2-0"),
        ("w", Failed, "1-0"),
        ("w", delivered(1), "3-0"),
        ("w", delivered(1), "4-0"),
    ]);
    valid(bounded_in_flight(3)(&bad));
    valid(bounded_in_flight(2)(&bad[..5]));
    unknown(bounded_in_flight(2)(&[]));
    violated(
        bounded_in_flight(2)(&bad),
        "too many in flight",
        &[2, 4, 5],
        "w had 3 messages in flight at 6.0 ms, and 2 are allowed: 4-0 came while 2-0, 3-0 had not been finished",
    );
    // Taken over before it was started, or lost with the worker: not in flight there.
    valid(bounded_in_flight(1)(&history(&[
        ("w", delivered(1), "1-0"),
        ("v", delivered(2), "1-0"),
        ("w", delivered(1), "2-0"),
        ("w", fault(), ""),
        ("w", delivered(1), "3-0"),
    ])));
    // Taken over while it was running: in flight in both places.
    let stolen = history(&[
        ("w", started(1), "1-0"),
        ("v", delivered(2), "1-0"),
        ("w", delivered(1), "2-0"),
    ]);
    assert!(matches!(
        bounded_in_flight(1)(&stolen),
        Verdict::Violated(_)
    ));
    // Handed out once more while it runs, it still runs.
    let again = history(&[
        ("w", started(1), "1-0"),
        ("w", delivered(2), "1-0"),
        ("v", delivered(3), "1-0"),
        ("w", delivered(1), "2-0"),
    ]);
    assert!(matches!(bounded_in_flight(1)(&again), Verdict::Violated(_)));
}

#[test]
fn attempts_end_at_the_limit() {
    let bad = history(&[
        ("w", started(1), "1-0"),
        ("w", started(2), "1-0"),
        ("w", started(0), "1-0"),
    ]);
    valid(attempts_at_most(2)(&bad[..2]));
    unknown(attempts_at_most(2)(&[]));
    violated(
        attempts_at_most(2)(&bad),
        "too many attempts",
        &[0, 1, 2],
        "entry 1-0 was started for the 3rd time at 3.0 ms; 2 attempts are allowed",
    );
    violated(
        attempts_at_most(2)(&history(&[("w", started(4), "1-0")])),
        "too many attempts",
        &[0],
        "entry 1-0 was started at 1.0 ms for its 4th delivery; 2 attempts are allowed",
    );
}

#[test]
fn delivery_counts_grow() {
    let name = "delivery count does not grow";
    valid(deliveries_grow(&history(&[
        ("w", started(1), "1-0"),
        ("v", started(3), "1-0"),
        // Handed out before v's, begun after it.
        ("u", started(2), "1-0"),
        ("w", started(0), "1-0"),
        ("w", started(1), "2-0"),
    ])));
    unknown(deliveries_grow(&history(&[("w", started(0), "1-0")])));
    violated(
        deliveries_grow(&history(&[
            ("w", started(1), "1-0"),
            ("v", started(1), "1-0"),
        ])),
        name,
        &[0, 1],
        "entry 1-0 was started at 1.0 ms with delivery count 1, and again at 2.0 ms with 1",
    );
    violated(
        deliveries_grow(&history(&[
            ("w", started(2), "1-0"),
            ("w", started(1), "1-0"),
        ])),
        name,
        &[0, 1],
        "entry 1-0 was started at 1.0 ms with delivery count 2, and again at 2.0 ms with 1",
    );
}

#[test]
fn a_stale_token_is_refused() {
    valid(fenced(&history(&[
        ("a", Token(1), "db"),
        ("a", Token(1), "db"),
        ("b", Token(2), "db"),
        ("a", Token(1), "other"),
    ])));
    unknown(fenced(&[]));
    violated(
        fenced(&history(&[("b", Token(2), "db"), ("a", Token(1), "db")])),
        "stale token accepted",
        &[0, 1],
        "db accepted token 1 from a at 2.0 ms, after token 2 from b at 1.0 ms",
    );
    violated(
        fenced(&history(&[("b", Token(2), "db"), ("a", Token(2), "db")])),
        "token shared",
        &[0, 1],
        "db accepted token 2 from b at 1.0 ms and from a at 2.0 ms",
    );
}

#[test]
fn a_message_is_handled_in_one_place_at_a_time() {
    let start = |actor| (actor, started(1), "1-0");
    valid(delivered_to_one_at_a_time(&history(&[
        start("a"),
        ("a", Failed, "1-0"),
        start("b"),
        ("b", fault(), ""),
        start("a"),
        ("a", Succeeded, "1-0"),
    ])));
    unknown(delivered_to_one_at_a_time(&[]));
    violated(
        // That another one has finished does not end what this one does.
        delivered_to_one_at_a_time(&history(&[start("a"), ("b", Succeeded, "1-0"), start("b")])),
        "handled twice at once",
        &[0, 2],
        "entry 1-0 was started by b at 3.0 ms, while a was still at it since 1.0 ms",
    );
}

/// The definitions once more, as plain as they can be written: over all pairs and all
/// moments, with no state carried along.
mod plain {
    use super::*;

    #[derive(Debug, PartialEq)]
    pub enum Said {
        Valid,
        Violated,
        Unknown,
    }

    pub fn said(verdict: &Verdict) -> Said {
        match verdict {
            Verdict::Valid => Said::Valid,
            Verdict::Violated(_) => Said::Violated,
            Verdict::Unknown(_) => Said::Unknown,
        }
    }

    fn judge(known: bool, violated: bool) -> Said {
        match (known, violated) {
            (_, true) => Said::Violated,
            (true, false) => Said::Valid,
            (false, false) => Said::Unknown,
        }
    }

    fn pairs(events: &[Event]) -> impl Iterator<Item = (usize, usize)> {
        let n = events.len();
        (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
    }

    fn settles(event: &Event) -> bool {
        matches!(event.what, Acknowledged | DeadLettered | Dropped)
    }

    fn number(event: &Event) -> Option<u64> {
        match event.what {
            Started { deliveries } => Some(deliveries),
            _ => None,
        }
    }

    pub fn nothing_lost(events: &[Event]) -> Said {
        let about = |id: &str, holds: &dyn Fn(&Event) -> bool| {
            events.iter().any(|e| e.id == id && holds(e))
        };
        let hides = |e: &Event| matches!(e.what, Hidden(_));
        let open: Vec<&Event> = events
            .iter()
            .filter(|e| e.what == Sent && !about(&e.id, &settles))
            .collect();
        let certain = open.iter().any(|e| {
            about(&e.id, &|e| e.what == Pending) || !(about(&e.id, &hides) || about("", &hides))
        });
        judge(
            events.iter().any(|e| e.what == Sent) && open.is_empty(),
            certain,
        )
    }

    pub fn never_both(events: &[Event]) -> Said {
        let both = events.iter().any(|a| {
            a.what == Acknowledged
                && events
                    .iter()
                    .any(|d| d.what == DeadLettered && d.id == a.id)
        });
        judge(
            events
                .iter()
                .any(|e| matches!(e.what, Acknowledged | DeadLettered)),
            both,
        )
    }

    pub fn no_duplicate_effect(events: &[Event]) -> Said {
        let effect = |i: usize| events[i].what == Effect;
        let twice =
            pairs(events).any(|(i, j)| effect(i) && effect(j) && events[i].id == events[j].id);
        judge((0..events.len()).any(effect), twice)
    }

    pub fn acknowledged_only_after_success(events: &[Event]) -> Said {
        let early = (0..events.len()).any(|i| {
            events[i].what == Acknowledged
                && !events[..i]
                    .iter()
                    .any(|e| e.what == Succeeded && e.id == events[i].id)
        });
        let acked = events.iter().any(|e| e.what == Acknowledged);
        let handled = events
            .iter()
            .any(|e| matches!(e.what, Started { .. } | Succeeded | Failed));
        if acked && handled {
            judge(true, early)
        } else {
            Said::Unknown
        }
    }

    pub fn in_order_per_key(events: &[Event]) -> Said {
        let sent = |id: &str| events.iter().position(|e| e.what == Sent && e.id == id);
        let first = |i: usize| {
            number(&events[i]).is_some()
                && !events[..i].iter().any(|e| {
                    number(e).is_some() && e.actor == events[i].actor && e.id == events[i].id
                })
        };
        let mut known = false;
        let mut disorder = false;
        for (i, j) in pairs(events) {
            let (Some(a), Some(b)) = (sent(&events[i].id), sent(&events[j].id)) else {
                continue;
            };
            let comparable = first(i)
                && first(j)
                && events[i].actor == events[j].actor
                && events[a].detail == events[b].detail;
            known |= comparable;
            disorder |= comparable && a > b;
        }
        judge(known, disorder)
    }

    pub fn bounded_in_flight(most: usize, events: &[Event]) -> Said {
        let comes = |i: usize| matches!(events[i].what, Delivered { .. } | Started { .. });
        // Does the flight that began (or was going on) at `i` end at `j`?
        let ends = |i: usize, j: usize| {
            let (actor, id, event) = (&events[i].actor, &events[i].id, &events[j]);
            let mine = event.actor == *actor;
            let it = event.id == *id;
            let started = || {
                events[i..j]
                    .iter()
                    .any(|e| number(e).is_some() && e.actor == *actor && e.id == *id)
            };
            match event.what {
                Succeeded | Failed => mine && it,
                Acknowledged | DeadLettered | Dropped => it,
                Fault(_) => mine,
                Delivered { .. } => !mine && it && !started(),
                _ => false,
            }
        };
        let flies = |actor: &str, id: &str, now: usize| {
            (0..=now).any(|i| {
                comes(i)
                    && events[i].actor == actor
                    && events[i].id == id
                    && !(i + 1..=now).any(|j| ends(i, j))
            })
        };
        let too_many = (0..events.len()).any(|now| {
            ACTORS
                .iter()
                .any(|actor| IDS.iter().filter(|id| flies(actor, id, now)).count() > most)
        });
        judge((0..events.len()).any(comes), too_many)
    }

    pub fn attempts_at_most(most: u64, events: &[Event]) -> Said {
        let starts = |id: &str| {
            events
                .iter()
                .filter(|e| number(e).is_some() && e.id == id)
                .count()
        };
        let many = events
            .iter()
            .filter_map(|e| Some((number(e)?, e)))
            .any(|(n, e)| n > most || starts(&e.id) as u64 > most);
        judge(events.iter().any(|e| number(e).is_some()), many)
    }

    pub fn deliveries_grow(events: &[Event]) -> Said {
        let told = |i: usize| number(&events[i]).filter(|n| *n > 0);
        let wrong = pairs(events).any(|(i, j)| {
            let (Some(a), Some(b)) = (told(i), told(j)) else {
                return false;
            };
            events[i].id == events[j].id
                && (a == b || (a > b && events[i].actor == events[j].actor))
        });
        judge((0..events.len()).any(|i| told(i).is_some()), wrong)
    }

    pub fn fenced(events: &[Event]) -> Said {
        let token = |i: usize| match events[i].what {
            Token(token) => Some(token),
            _ => None,
        };
        let wrong = pairs(events).any(|(i, j)| {
            let (Some(a), Some(b)) = (token(i), token(j)) else {
                return false;
            };
            events[i].id == events[j].id
                && (a > b || (a == b && events[i].actor != events[j].actor))
        });
        judge((0..events.len()).any(|i| token(i).is_some()), wrong)
    }

    pub fn delivered_to_one_at_a_time(events: &[Event]) -> Said {
        let start = |i: usize| number(&events[i]).is_some();
        let wrong = pairs(events).any(|(i, j)| {
            let over = events[i + 1..j].iter().any(|e| {
                e.actor == events[i].actor
                    && (matches!(e.what, Fault(_))
                        || (matches!(e.what, Succeeded | Failed) && e.id == events[i].id))
            });
            start(i) && start(j) && events[i].id == events[j].id && !over
        });
        judge((0..events.len()).any(start), wrong)
    }
}

const ACTORS: [&str; 3] = ["a", "b", "broker"];
const IDS: [&str; 3] = ["1-0", "2-0", "3-0"];

/// Any of these kinds to anybody: mostly nonsense, as it should be.
fn histories(kinds: Vec<What>) -> impl Strategy<Value = Vec<Event>> {
    let event = (
        select(&ACTORS[..]),
        select(kinds),
        select(&IDS[..]),
        select(&["", "k"][..]),
    );
    proptest::collection::vec(event, 0..14).prop_map(|events| {
        events
            .into_iter()
            .enumerate()
            .map(|(i, (actor, what, id, detail))| Event {
                at: Duration::from_millis(i as u64),
                actor: actor.to_owned(),
                // Faults are about an actor, and some things out of sight about everything.
                id: match what {
                    Fault(_) => String::new(),
                    Hidden(_) if detail.is_empty() => String::new(),
                    _ => id.to_owned(),
                },
                what,
                detail: detail.to_owned(),
            })
            .collect()
    })
}

/// The kinds that matter to one checker more often than the others.
fn about(kinds: &[What]) -> impl Strategy<Value = Vec<Event>> + use<> {
    let mut all = vec![
        Sent,
        delivered(1),
        started(1),
        Succeeded,
        Failed,
        Acknowledged,
        DeadLettered,
        Effect,
        Dropped,
        Token(1),
        Pending,
        Note("n".into()),
        fault(),
    ];
    for _ in 0..6 {
        all.extend_from_slice(kinds);
    }
    histories(all)
}

/// Same verdict, and a proof that is one.
fn agree(verdict: Verdict, plain: plain::Said, events: &[Event]) -> Result<(), TestCaseError> {
    prop_assert_eq!(plain::said(&verdict), plain, "{:?}", verdict);
    if let Verdict::Violated(anomaly) = verdict {
        prop_assert!(!anomaly.events.is_empty() && !anomaly.ids.is_empty());
        prop_assert!(anomaly.events.is_sorted());
        for i in &anomaly.events {
            prop_assert!(anomaly.ids.contains(&events[*i].id), "{:?}", anomaly);
        }
        // What proves it in the whole history must not need the events after it.
        let text = diagram(events, &anomaly);
        prop_assert_eq!(
            text.lines().filter(|line| line.starts_with('!')).count(),
            anomaly.events.len()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_lost_is_what_it_says(events in about(&[Sent, Acknowledged, DeadLettered, Hidden("h".into())])) {
        agree(nothing_lost(&events), plain::nothing_lost(&events), &events)?;
    }

    #[test]
    fn never_both_is_what_it_says(events in about(&[Acknowledged, DeadLettered])) {
        agree(never_both(&events), plain::never_both(&events), &events)?;
    }

    #[test]
    fn no_duplicate_effect_is_what_it_says(events in about(&[Effect])) {
        agree(no_duplicate_effect(&events), plain::no_duplicate_effect(&events), &events)?;
    }

    #[test]
    fn acknowledged_only_after_success_is_what_it_says(events in about(&[Succeeded, Acknowledged])) {
        agree(
            acknowledged_only_after_success(&events),
            plain::acknowledged_only_after_success(&events),
            &events,
        )?;
    }

    #[test]
    fn in_order_per_key_is_what_it_says(events in about(&[Sent, started(1), started(2)])) {
        agree(in_order_per_key(&events), plain::in_order_per_key(&events), &events)?;
    }

    #[test]
    fn bounded_in_flight_is_what_it_says(
        most in 0_usize..3,
        events in about(&[delivered(1), started(1), delivered(0), Failed]),
    ) {
        agree(bounded_in_flight(most)(&events), plain::bounded_in_flight(most, &events), &events)?;
    }

    #[test]
    fn attempts_at_most_is_what_it_says(
        most in 0_u64..4,
        events in about(&[started(1), started(2), started(3)]),
    ) {
        agree(attempts_at_most(most)(&events), plain::attempts_at_most(most, &events), &events)?;
    }

    #[test]
    fn deliveries_grow_is_what_it_says(
        events in about(&[started(0), started(1), started(2), started(3), started(4), started(5)]),
    ) {
        agree(deliveries_grow(&events), plain::deliveries_grow(&events), &events)?;
    }

    #[test]
    fn fenced_is_what_it_says(events in about(&[Token(1), Token(2), Token(3), Token(4)])) {
        agree(fenced(&events), plain::fenced(&events), &events)?;
    }

    #[test]
    fn delivered_to_one_at_a_time_is_what_it_says(events in about(&[started(1), Succeeded, fault()])) {
        agree(
            delivered_to_one_at_a_time(&events),
            plain::delivered_to_one_at_a_time(&events),
            &events,
        )?;
    }
}

// The recorder

#[test]
fn what_many_record_at_once_is_all_there_and_in_order() {
    let history = History::new(Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let history = history.clone();
            scope.spawn(move || {
                for i in 0..500 {
                    history.record(&format!("w{thread}"), Effect, &format!("{thread}-{i}"));
                }
            });
        }
    });
    let events = history.events();
    assert_eq!(events.len(), 4000);
    assert!(events.is_sorted_by_key(|event| event.at));
    assert!(history.require(no_duplicate_effect).is_ok());
}

#[test]
fn a_failure_brings_its_proof_along() {
    let history = History::new(Instant::now());
    let unknown = history
        .require_code(no_duplicate_effect, "SQ99")
        .unwrap_err();
    assert_eq!(unknown.code, None);
    assert_eq!(
        unknown.observed,
        "nothing shows that the promise was kept: no message had an effect"
    );
    history.record("a", Effect, "1-0");
    history.record("b", Effect, "1-0");
    let failure = history
        .require_code(no_duplicate_effect, "SQ99")
        .unwrap_err();
    assert_eq!(failure.code, Some("SQ99"));
    assert!(failure.observed.starts_with("entry 1-0 had its effect"));
    assert!(failure.history.as_deref().unwrap().contains("● effect"));
    assert!(failure.picture.as_deref().unwrap().contains("<svg"));
}

// Pictures

#[test]
fn the_diagram_has_a_lane_for_everybody_and_marks_the_proof() {
    let events = history(&[
        ("producer", Sent, "17-0"),
        ("producer", Sent, "18-0"),
        ("worker-1", delivered(1), "17-0"),
        ("worker-1", started(1), "17-0"),
        ("broker", Acknowledged, "17-0"),
        ("worker-1", fault(), ""),
        ("worker-2", started(1), "18-0"),
        ("worker-1", Succeeded, "17-0"),
    ]);
    let Verdict::Violated(anomaly) = acknowledged_only_after_success(&events) else {
        panic!("it is not valid");
    };
    let wanted = "
             producer        broker          worker-1
     1.0 ms  ○ sent          │               │
     3.0 ms  │               │               ○ delivered #1
     4.0 ms  │               │               ○ started #1
!    5.0 ms  │               ● acknowledged  │
     6.0 ms  │               │               ○ killed
!    8.0 ms  │               │               ● succeeded";
    let drawn = format!("\n{}", diagram(&events, &anomaly));
    assert!(drawn.lines().eq(wanted.lines()), "{drawn}");
}

fn crowd() -> (Vec<Event>, Anomaly) {
    let events: Vec<Event> = (0..5_000_u64)
        .map(|i| Event {
            at: Duration::from_millis(i * 7),
            actor: format!("worker-with-a-long-name-{}", i % 12),
            what: started(i),
            id: format!("1732380000000-{}", i % 40),
            detail: String::new(),
        })
        .collect();
    let anomaly = Anomaly {
        name: "crowd",
        ids: (0..40).map(|i| format!("1732380000000-{i}")).collect(),
        events: vec![3, 2500, 4999],
        explanation: "too many".into(),
    };
    (events, anomaly)
}

#[test]
fn the_diagram_of_a_crowd_still_fits_on_a_screen() {
    let (events, anomaly) = crowd();
    let drawn = diagram(&events, &anomaly);
    assert!(drawn.lines().count() <= 40, "{drawn}");
    assert!(
        drawn.lines().all(|line| line.chars().count() <= 100),
        "{drawn}"
    );
    assert_eq!(
        drawn.lines().filter(|line| line.starts_with('!')).count(),
        3
    );
    assert!(
        drawn.contains("more)"),
        "it says what it leaves out:\n{drawn}"
    );
}

#[test]
fn the_picture_stands_on_its_own_and_trusts_nobody() {
    let (mut events, mut anomaly) = crowd();
    events[2500].actor = "<script>alert(1)</script>".into();
    anomaly.explanation = "a < b & \"c\"".into();
    let page = picture(&events, &anomaly);
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.contains("<svg role=\"img\"") && page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("a &lt; b &amp; &quot;c&quot;"));
    assert!(!page.contains("<script") && !page.contains("http:") && !page.contains("https:"));
}

// From the wire

struct Setting {
    server: Server,
    proxy: Proxy,
    history: History,
    candidate: MultiplexedConnection,
}

impl Setting {
    async fn new() -> Setting {
        let server = Server::start();
        let began = Instant::now();
        let proxy = Proxy::start(&server.addr, began).unwrap();
        let candidate = connect(&proxy.url()).await;
        let mut setting = Setting {
            server,
            proxy,
            history: History::new(began),
            candidate,
        };
        setting.run("XGROUP CREATE s g 0 MKSTREAM").await;
        setting
    }

    async fn run(&mut self, words: &str) -> redis::Value {
        self.try_run(words).await.unwrap()
    }

    async fn try_run(&mut self, words: &str) -> redis::RedisResult<redis::Value> {
        command(words).query_async(&mut self.candidate).await
    }

    async fn send(&mut self, ids: &[&str]) {
        for id in ids {
            self.run(&format!("XADD s {id} n 1")).await;
            self.history.record("producer", Sent, id);
        }
    }

    /// Who, what and which, in order, without the sent ones.
    fn seen(&self) -> Vec<(String, What, String)> {
        self.history.absorb(&self.proxy, "s", "g");
        self.history
            .events()
            .into_iter()
            .filter(|event| event.what != Sent)
            .map(|event| (event.actor, event.what, event.id))
            .collect()
    }

    async fn absorb_state(&self) {
        let mut own = connect(&format!("redis://{}", self.server.addr)).await;
        self.history.absorb_state(&mut own, "s", "g").await.unwrap();
    }
}

async fn connect(url: &str) -> MultiplexedConnection {
    redis::Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

fn command(words: &str) -> redis::Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

fn event(actor: &str, what: What, id: &str) -> (String, What, String) {
    (actor.to_owned(), what, id.to_owned())
}

#[tokio::test]
async fn deliveries_and_acknowledgements_are_read_off_the_wire_once() {
    let mut setting = Setting::new().await;
    setting.send(&["1-0", "2-0", "3-0"]).await;
    setting
        .run("XREADGROUP GROUP g w COUNT 2 STREAMS s >")
        .await;
    setting.run("XGROUP CREATE s other 0").await;
    setting
        .run("XREADGROUP GROUP other w COUNT 2 STREAMS s >")
        .await;
    setting.run("XACK s g 1-0 1-0").await;
    setting.run("XACK s g 1-0").await;
    let mut wanted = vec![
        event("w", delivered(1), "1-0"),
        event("w", delivered(1), "2-0"),
        event("broker", Acknowledged, "1-0"),
    ];
    assert_eq!(setting.seen(), wanted);
    // Its own pending ones again; then to somebody else; keeping is no delivery.
    setting.run("XREADGROUP GROUP g w STREAMS s 0").await;
    setting.run("XCLAIM s g v 0 2-0").await;
    setting.run("XCLAIM s g v 0 2-0 JUSTID").await;
    setting.run("XAUTOCLAIM s g u 0 0").await;
    setting.run("XAUTOCLAIM s g u 0 0 JUSTID").await;
    setting.run("XREADGROUP GROUP g w NOACK STREAMS s >").await;
    wanted.extend([
        event("w", delivered(0), "2-0"),
        event("v", delivered(0), "2-0"),
        event("u", delivered(0), "2-0"),
        event("w", delivered(1), "3-0"),
    ]);
    assert_eq!(setting.seen(), wanted);
    assert_eq!(setting.seen(), wanted);
}

#[tokio::test]
async fn a_dead_letter_and_its_acknowledgement_are_one_event() {
    let mut setting = Setting::new().await;
    setting.send(&["1-0", "2-0", "3-0"]).await;
    setting.run("XREADGROUP GROUP g w STREAMS s >").await;
    let _: () = redis::pipe()
        .atomic()
        .add_command(command("XACK s g 1-0"))
        .add_command(command("XADD s:dead * n 1 _id 1-0 _reason r"))
        .query_async(&mut setting.candidate)
        .await
        .unwrap();
    // In two steps; and the wrong way round.
    setting.run("XADD s:dead * n 1 _id 2-0 _reason r").await;
    setting.run("XACK s g 2-0").await;
    setting.run("XACK s g 3-0").await;
    setting.run("XADD s:dead * n 1 _id 3-0 _reason r").await;
    let seen: Vec<_> = setting
        .seen()
        .into_iter()
        .filter(|(_, what, _)| matches!(what, Acknowledged | DeadLettered))
        .collect();
    let wanted = [
        event("broker", DeadLettered, "1-0"),
        event("broker", DeadLettered, "2-0"),
        event("broker", Acknowledged, "3-0"),
        event("broker", DeadLettered, "3-0"),
    ];
    assert_eq!(seen, wanted);
    let Verdict::Violated(anomaly) = never_both(&setting.history.events()) else {
        panic!("3-0 was settled twice");
    };
    assert_eq!(anomaly.ids, ["3-0"]);
}

#[tokio::test]
async fn a_transaction_that_was_not_carried_out_changes_nothing() {
    let mut setting = Setting::new().await;
    setting.send(&["1-0"]).await;
    setting.run("XREADGROUP GROUP g w STREAMS s >").await;
    for words in ["MULTI", "XACK s g 1-0", "DISCARD"] {
        setting.run(words).await;
    }
    assert_eq!(setting.seen(), [event("w", delivered(1), "1-0")]);
}

#[tokio::test]
async fn what_a_script_did_is_told_by_the_broker_at_the_end() {
    let mut setting = Setting::new().await;
    setting.send(&["1-0", "2-0", "3-0", "4-0", "5-0"]).await;
    setting
        .run("XREADGROUP GROUP g w COUNT 4 STREAMS s >")
        .await;
    setting.run("XACK s g 4-0").await;
    let script = redis::Script::new(
        "redis.call('XACK', KEYS[1], 'g', '1-0', '2-0')
         redis.call('XADD', KEYS[2], '*', 'n', '1', '_id', '2-0')",
    );
    let _: () = script
        .key("s")
        .key("s:dead")
        .invoke_async(&mut setting.candidate)
        .await
        .unwrap();
    assert!(
        setting
            .seen()
            .iter()
            .any(|(_, what, _)| matches!(what, Hidden(_)))
    );
    unknown(nothing_lost(&setting.history.events()));
    setting.absorb_state().await;
    let mut seen = setting.seen();
    let last = seen.split_off(seen.len() - 4);
    let wanted = [
        event("broker", Acknowledged, "1-0"),
        event("broker", DeadLettered, "2-0"),
        event("broker", Pending, "3-0"),
        event("broker", Pending, "5-0"),
    ];
    assert_eq!(last, wanted);
    let Verdict::Violated(anomaly) = nothing_lost(&setting.history.events()) else {
        panic!("3-0 and 5-0 are not finished");
    };
    assert_eq!(
        (anomaly.name, &anomaly.ids[..]),
        ("unfinished message", &["3-0".to_owned()][..])
    );
}

#[tokio::test]
async fn the_state_of_thousands_is_read_in_pages() {
    let mut setting = Setting::new().await;
    let ids: Vec<String> = (1..=2500).map(|i| format!("{i}-0")).collect();
    setting
        .send(&ids.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    setting.run("XREADGROUP GROUP g w STREAMS s >").await;
    setting.run("XACK s g 17-0").await;
    let mut pipe = redis::pipe();
    for i in 100..1600 {
        pipe.add_command(command(&format!("XADD s:dead * _id {i}-0")))
            .ignore();
        pipe.add_command(command(&format!("XACK s g {i}-0")))
            .ignore();
    }
    let _: () = pipe.query_async(&mut setting.candidate).await.unwrap();
    setting.absorb_state().await;
    let count = |what: What| {
        setting
            .history
            .events()
            .iter()
            .filter(|e| e.what == what)
            .count()
    };
    assert_eq!(
        (count(Pending), count(Acknowledged), count(DeadLettered)),
        (999, 1, 1500)
    );
}

#[tokio::test]
async fn without_a_stream_everything_sent_is_still_pending() {
    let setting = Setting::new().await;
    setting.history.record("producer", Sent, "1-0");
    let mut own = connect(&format!("redis://{}", setting.server.addr)).await;
    setting
        .history
        .absorb_state(&mut own, "nowhere", "g")
        .await
        .unwrap();
    assert_eq!(setting.seen(), [event("broker", Pending, "1-0")]);
}

#[tokio::test]
async fn lost_replies_and_faults_are_part_of_the_history() {
    let mut setting = Setting::new().await;
    setting.send(&["1-0"]).await;
    let fault = setting
        .proxy
        .arm(Trigger::reply(|e| e.is("XREADGROUP")), Action::CutAfter);
    setting
        .try_run("XREADGROUP GROUP g w STREAMS s >")
        .await
        .unwrap_err();
    assert!(fault.has_fired());
    let seen = setting.seen();
    assert_eq!(seen.len(), 2);
    let text = "handed out by the broker, lost on the way".to_owned();
    assert!(seen.contains(&event("w", Note(text), "1-0")));
    let text = "cut, the reply of XREADGROUP lost".to_owned();
    assert!(seen.contains(&event("network", Fault(text), "")));
}

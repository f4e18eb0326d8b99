//! Stage 5: patterns, and subscriptions that end with their guard.

use std::sync::{Arc, Mutex};

use event_bus::{Error, Overflow, Pattern, Subscribe, Subscription};
use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::hall::{A_WHILE, Gate, Hall, event, keys, room_for, subscribe};
use crate::heard::{Token, some};

pub fn checks() -> Vec<Check> {
    lab::checks![
        a_star_is_one_word_and_a_hash_any_number,
        patterns_agree_with_trying_everything,
        what_is_no_pattern_is_refused,
        no_pattern_takes_for_ever,
        events_go_to_whom_their_name_matches,
        a_dropped_guard_ends_the_subscription_at_once,
        a_dropped_guard_lets_publishers_go_on,
        a_running_call_goes_on_to_its_end,
        a_kept_subscription_needs_no_guard,
        a_handler_may_subscribe,
        a_handler_may_end_its_own_subscription,
        a_handler_may_end_anothers_subscription,
    ]
}

const TABLE: [(&str, &str, bool); 42] = [
    ("order", "order", true),
    ("order", "orders", false),
    ("order", "order.placed", false),
    ("order.placed", "order", false),
    ("order.placed", "order.placed", true),
    ("order.placed", "order-placed", false),
    ("order.placed", "orderxplaced", false),
    ("order.placed", "ORDER.PLACED", false),
    ("order.*", "order.placed", true),
    ("order.*", "order.placed.late", false),
    ("order.*", "order", false),
    ("order.*", "orders.placed", false),
    ("*", "order", true),
    ("*", "order.placed", false),
    ("*.*", "order.placed", true),
    ("*.placed", "order.placed", true),
    ("*.placed", "placed", false),
    ("*.placed", "a.b.placed", false),
    ("order.*.late", "order.placed.late", true),
    ("order.*.late", "order.late", false),
    ("order.#", "order", true),
    ("order.#", "order.placed", true),
    ("order.#", "order.placed.late", true),
    ("order.#", "orders", false),
    ("order.#", "orders.placed", false),
    ("#", "order", true),
    ("#", "a.b.c.d.e", true),
    ("#.placed", "placed", true),
    ("#.placed", "order.placed", true),
    ("#.placed", "a.b.placed", true),
    ("#.placed", "order.placed.late", false),
    ("#.placed", "order.replaced", false),
    ("a.#.z", "a.z", true),
    ("a.#.z", "a.b.c.z", true),
    ("a.#.z", "a", false),
    ("a.#.z", "a.z.b", false),
    ("a.#.b.#.c", "a.b.b.x.c", true),
    ("#.*", "a", true),
    ("*.#.*", "a", false),
    ("*.#.*", "a.b", true),
    ("#.#", "a.b.c", true),
    ("a.#.*.b", "a.b", false),
];

async fn a_star_is_one_word_and_a_hash_any_number(lab: Lab) -> Outcome {
    lab.promise("In a pattern `*` stands for exactly one word and `#` for none or more; any other word stands for itself.");
    for (pattern, name, expected) in TABLE {
        let matches = Pattern::new(pattern)?.matches(name);
        ensure!(
            matches == expected,
            "EB12",
            "`{pattern}` {} `{name}`, and `matches` says {matches}",
            if expected {
                "matches"
            } else {
                "does not match"
            }
        );
    }
    Ok(())
}

/// The meaning of a pattern, word by word, by trying every number of words for a `#`.
fn means(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((&"#", rest)), _) => (0..=name.len()).any(|skip| means(rest, &name[skip..])),
        (Some(_), None) => false,
        (Some((word, rest)), Some((first, others))) => {
            (*word == "*" || word == first) && means(rest, others)
        }
    }
}

fn words(rng: &mut StdRng, from: &[&'static str], most: usize) -> Vec<&'static str> {
    let count = rng.random_range(1..=most);
    (0..count)
        .map(|_| *from.choose(rng).expect("not empty"))
        .collect()
}

async fn patterns_agree_with_trying_everything(lab: Lab) -> Outcome {
    lab.promise("Whatever the pattern and the name: they match exactly if the words can be laid beside each other.");
    let mut rng = lab.rng();
    let mut matched = 0;
    for _ in 0..6_000 {
        let pattern = words(&mut rng, &["a", "b", "ab", "*", "#", "#"], 6);
        let text = pattern.join(".");
        let compiled = Pattern::new(&text)?;
        for _ in 0..4 {
            let name = words(&mut rng, &["a", "b", "ab"], 7);
            let expected = means(&pattern, &name);
            matched += usize::from(expected);
            let matches = compiled.matches(&name.join("."));
            ensure!(
                matches == expected,
                "EB12",
                "`{text}` {} `{}`, and `matches` says {matches}",
                if expected {
                    "matches"
                } else {
                    "does not match"
                },
                name.join(".")
            );
        }
    }
    ensure!(
        matched > 1_000,
        "only {matched} pairs matched: nothing was shown"
    );
    Ok(())
}

async fn what_is_no_pattern_is_refused(lab: Lab) -> Outcome {
    lab.promise("A pattern is 1 to 255 bytes of words joined by single dots; a word is `*`, `#`, or letters, digits, `_` and `-`. Anything else is refused, by `Pattern::new` and by `subscribe`.");
    let hall = Hall::new(&lab);
    let long = "a".repeat(255);
    let longer = "a".repeat(256);
    for good in ["a", "A-b_9.*.#", "#.#.#", "-", "_._", "0", &long, "*.*"] {
        Pattern::new(good).map_err(|error| {
            Failure::observed(format!("`{good}` is a pattern, and was refused: {error}"))
        })?;
    }
    for bad in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "*a",
        "a*",
        "a.b#",
        "##",
        "**",
        "#*",
        "a b",
        " a",
        "ä",
        "a.\u{1F980}",
        "a\n",
        "a/b",
        "a.*x.b",
        "a,b",
        "\0",
        &longer,
    ] {
        let refused = Pattern::new(bad);
        ensure!(
            matches!(refused, Err(Error::BadPattern { .. })),
            "{bad:?} is no pattern, and `Pattern::new` said {:?}",
            refused.map(|_| "that it is one")
        );
        let handler: crate::hall::Work = Arc::new(|_event| Box::pin(async { Ok(()) }));
        let refused = subscribe(&hall.bus, bad, Subscribe::default(), handler);
        ensure!(
            matches!(refused, Err(Error::BadPattern { .. })),
            "{bad:?} is no pattern, and `subscribe` said {:?}",
            refused.map(|_| "that it is subscribed")
        );
    }
    Ok(())
}

async fn no_pattern_takes_for_ever(lab: Lab) -> Outcome {
    lab.promise(
        "No pattern makes matching explode: with thirty `#` and a long name it is done at once.",
    );
    let name = vec!["a"; 120].join(".");
    let mixed: Vec<&str> = (0..120).map(|n| ["a", "b"][n % 2]).collect();
    for (pattern, name, expected) in [
        ("#.".repeat(30) + "x", name.clone(), false),
        ("#.a.".repeat(30) + "x", name.clone(), false),
        ("#.a.*.".repeat(25) + "x", name.clone(), false),
        ("#.*.".repeat(30) + "#.x", mixed.join("."), false),
        ("#.b.a.".repeat(25) + "#.b.b", mixed.join("."), false),
        ("#.a.".repeat(30) + "#", name, true),
        ("#.b.a.".repeat(25) + "#", mixed.join("."), true),
    ] {
        let (text, asked) = (pattern.clone(), name.clone());
        let asking =
            std::thread::spawn(move || Pattern::new(&text).map(|pattern| pattern.matches(&asked)));
        lab.eventually("one match to be decided", || async {
            Ok(asking.is_finished().then_some(()))
        })
        .await
        .map_err(|failure| failure.also(format!("the pattern is `{pattern}`")))?;
        let Ok(matches) = asking.join() else {
            lab::fail!("`{pattern}` against {name} panicked");
        };
        ensure!(
            matches? == expected,
            "EB12",
            "`{pattern}` {} `{name}`, and `matches` says otherwise",
            if expected {
                "matches"
            } else {
                "does not match"
            }
        );
    }
    Ok(())
}

async fn events_go_to_whom_their_name_matches(lab: Lab) -> Outcome {
    lab.promise("The bus gives an event to exactly the subscriptions whose pattern matches its name, and says to how many.");
    let hall = Hall::new(&lab);
    let mut rng = lab.rng();
    let mut listeners = Vec::new();
    for n in 0..40 {
        let pattern = match n {
            0 => vec!["#"],
            1 => vec!["order", "*"],
            2 => vec!["order", "#"],
            _ => words(&mut rng, &["order", "placed", "late", "*", "#"], 4),
        };
        let text = pattern.join(".");
        let listener = hall.listen_to(&text, &text, Subscribe::default(), |_event| async {
            Ok(())
        })?;
        listeners.push((pattern, listener, Vec::new()));
    }
    for n in 1..=200 {
        let name = words(&mut rng, &["order", "placed", "late"], 4);
        let mut expected = 0;
        for (pattern, _, due) in &mut listeners {
            if means(pattern, &name) {
                expected += 1;
                due.push((1, n));
            }
        }
        let published = hall.publish(event(&name.join("."), 1, n)).await?;
        ensure!(
            published.matched == expected,
            "EB12",
            "{expected} of 40 patterns match `{}`, and `matched` is {}",
            name.join("."),
            published.matched
        );
    }
    for (_, listener, due) in &listeners {
        listener.heard.until_ended(due.len()).await?;
        listener.heard.exactly(due, "EB12")?;
    }
    Ok(())
}

async fn a_dropped_guard_ends_the_subscription_at_once(lab: Lab) -> Outcome {
    lab.promise("Dropping the guard ends the subscription at once: no further call begins, what waits is freed and the handler is dropped, without another publish.");
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let witness = hall.quick("witness")?;
    let token = Token::default();
    let (held, waiting) = (token.clone(), gate.clone());
    let leaving = hall.listen("leaving", room_for(64, Overflow::Block), move |event| {
        let (held, gate) = (held.clone(), waiting.clone());
        async move {
            gate.passed().await;
            drop((held, event));
            Ok(())
        }
    })?;
    let idle_token = Token::default();
    let held = idle_token.clone();
    let idle = hall.listen("idle", Subscribe::default(), move |_event| {
        let held = held.clone();
        async move {
            drop(held);
            Ok(())
        }
    })?;
    hall.publish_all(1, 1, 20).await?;
    leaving.heard.until_begun(1).await?;
    idle.heard.until_ended(20).await?;
    witness.heard.until_ended(20).await?;
    drop((leaving.guard, idle.guard));
    lab.eventually("the nineteen waiting events to be freed", || async {
        Ok((witness.heard.alive() <= 1).then_some(()))
    })
    .await
    .map_err(|failure| {
        failure.code_if("EB10").also(format!(
            "the guard was dropped while its first call was at work; {} of 20 events are still held by somebody",
            witness.heard.alive()
        ))
    })?;
    idle_token
        .until_alone(&lab, "the handler of the idle subscription to be dropped")
        .await
        .map_err(|failure| failure.code_if("EB10"))?;
    gate.open();
    leaving.heard.until_ended(1).await?;
    token
        .until_alone(&lab, "the handler to be dropped after its running call")
        .await
        .map_err(|failure| failure.code_if("EB10"))?;
    let published = hall.publish(hall.event(1, 21)).await?;
    ensure!(
        published.matched == 1,
        "two of three guards were dropped, and `matched` is {}",
        published.matched
    );
    witness.heard.until_ended(21).await?;
    lab.within(A_WHILE).await;
    leaving.heard.exactly(&[(1, 1)], None)?;
    idle.heard.exactly(&keys(1, 20), None)?;
    ensure!(
        witness.heard.alive() == 0,
        "every event was handled or freed, and {} are still held by somebody",
        witness.heard.alive()
    );
    Ok(())
}

async fn a_dropped_guard_lets_publishers_go_on(lab: Lab) -> Outcome {
    lab.promise(
        "Publishers that wait for the room of a subscription go on when its guard is dropped.",
    );
    let hall = Hall::new(&lab);
    let gate = Gate::closed();
    let leaving = hall.gated("leaving", room_for(1, Overflow::Block), &gate)?;
    let staying = hall.gated("staying", room_for(2, Overflow::Block), &gate)?;
    let other = hall.quick("other")?;
    hall.publish(hall.event(1, 1)).await?;
    leaving.heard.until_begun(1).await?;
    staying.heard.until_begun(1).await?;
    hall.publish(hall.event(1, 2)).await?;
    // The first waits for the one that leaves alone, the others for both.
    let waiting: Vec<_> = (2..=4)
        .map(|by| hall.publishing(hall.event(by, 1)))
        .collect();
    other.heard.until_ended(5).await?;
    lab.within(A_WHILE).await;
    drop(leaving.guard);
    lab.eventually(
        "the publisher to go on that waited for the dropped one alone",
        || async { Ok(waiting.iter().any(|p| p.is_finished()).then_some(())) },
    )
    .await
    .map_err(|failure| failure.code_if("EB10"))?;
    let finished = waiting.iter().filter(|p| p.is_finished()).count();
    ensure!(
        finished == 1,
        "the other queue had room for one of three waiting publishers, and {finished} returned"
    );
    gate.open();
    for publishing in waiting {
        publishing.done().await?;
    }
    for listener in [&staying, &other] {
        listener.heard.until_ended(5).await?;
        listener
            .heard
            .in_order_of_publishers(&[(1, 1), (1, 2), (2, 1), (3, 1), (4, 1)], "EB04")?;
    }
    leaving.heard.exactly(&[(1, 1)], None)
}

async fn a_running_call_goes_on_to_its_end(lab: Lab) -> Outcome {
    lab.promise("A call that is running when the guard is dropped goes on to its end; what comes of it is told to the hook as ever.");
    let hall = Hall::new(&lab);
    let errors = hall.errors();
    let gate = Gate::closed();
    let waiting = gate.clone();
    let leaving = hall.listen("leaving", Subscribe::default(), move |_event| {
        let gate = waiting.clone();
        async move {
            gate.passed().await;
            tokio::task::yield_now().await;
            Err(event_bus::BoxError::from("at the end"))
        }
    })?;
    hall.publish_all(1, 1, 3).await?;
    leaving.heard.until_begun(1).await?;
    drop(leaving.guard);
    lab.within(A_WHILE).await;
    gate.open();
    leaving.heard.until_ended(1).await.map_err(|failure| {
        failure.also("its guard was dropped while the call was at work: it is not to be cut off")
    })?;
    errors.until(&lab, 1).await?;
    lab.within(A_WHILE).await;
    leaving.heard.exactly(&[(1, 1)], None)
}

async fn a_kept_subscription_needs_no_guard(lab: Lab) -> Outcome {
    lab.promise("`keep` gives up the guard: the subscription lives as long as the bus.");
    let hall = Hall::new(&lab);
    let kept = hall.quick("kept")?;
    let dropped = hall.quick("dropped")?;
    hall.publish(hall.event(1, 1)).await?;
    kept.guard.keep();
    drop(dropped.guard);
    for n in 2..=30 {
        let published = hall.publish(hall.event(1, n)).await?;
        ensure!(
            published.matched == 1,
            "one subscription is kept and one was dropped, and `matched` is {}",
            published.matched
        );
    }
    kept.heard.until_ended(30).await?;
    kept.heard.exactly(&keys(1, 30), None)
}

async fn a_handler_may_subscribe(lab: Lab) -> Outcome {
    lab.promise("A handler may subscribe; the new subscription gets what is published from then on, and nothing stands still.");
    let hall = Hall::new(&lab);
    let inner = Hall::new(&lab);
    let added: Arc<Mutex<Vec<crate::hall::Listener>>> = Arc::default();
    let (adding, kept) = (
        Hall {
            name: hall.name.clone(),
            bus: hall.bus.clone(),
            ..inner
        },
        Arc::clone(&added),
    );
    let parent = hall.listen("parent", Subscribe::default(), move |_event| {
        let (adding, kept) = (adding.clone(), Arc::clone(&kept));
        async move {
            let listener = adding
                .quick("child")
                .map_err(|failure| failure.observed.clone())?;
            kept.lock().expect("not poisoned").push(listener);
            Ok(())
        }
    })?;
    for n in 1..=12 {
        let published = hall.publish(hall.event(1, n)).await?;
        ensure!(
            published.matched == n as usize,
            "each call of the first handler subscribes another one; at event 1-{n} there were {n} subscriptions, and `matched` is {}",
            published.matched
        );
        parent
            .heard
            .until_ended(n as usize)
            .await
            .map_err(|failure| {
                failure
                    .code_if("EB06")
                    .also("its handler subscribes another handler to the same name")
            })?;
    }
    let children: Vec<_> = {
        let added = added.lock().expect("not poisoned");
        added.iter().map(|child| child.heard.clone()).collect()
    };
    for (n, child) in children.iter().enumerate() {
        let expected = keys(1, 12).split_off(n + 1);
        child.until_ended(expected.len()).await?;
        child.exactly(&expected, None)?;
    }
    Ok(())
}

/// A place for a guard that handlers can reach.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Option<Subscription>>>);

impl Shelf {
    fn put(&self, guard: Subscription) {
        *self.0.lock().expect("not poisoned") = Some(guard);
    }

    fn drop_guard(&self) {
        let guard = self.0.lock().expect("not poisoned").take();
        drop(guard);
    }
}

async fn a_handler_may_end_its_own_subscription(lab: Lab) -> Outcome {
    lab.promise("A handler may drop its own guard: its call goes on to its end, no further one begins, and publishers that wait for its room go on.");
    let hall = Hall::new(&lab);
    let shelf = Shelf::default();
    let (own, gate) = (shelf.clone(), Gate::closed());
    let waiting = gate.clone();
    let token = Token::default();
    let held = token.clone();
    let dropped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&dropped);
    let leaving = hall.listen("leaving", room_for(2, Overflow::Block), move |_event| {
        let (own, gate, held) = (own.clone(), waiting.clone(), held.clone());
        let told = Arc::clone(&told);
        async move {
            gate.passed().await;
            own.drop_guard();
            told.store(true, std::sync::atomic::Ordering::Release);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            drop(held);
            Ok(())
        }
    })?;
    let other = hall.quick("other")?;
    shelf.put(leaving.guard);
    hall.publish_all(1, 1, 1).await?;
    leaving.heard.until_begun(1).await?;
    hall.publish_all(1, 2, 3).await?;
    let stuck = hall.publishing(hall.event(1, 4));
    other.heard.until_ended(4).await?;
    gate.open();
    // Where the drop itself does not return, somebody holds a lock while the handler runs.
    let suspect = |failure: Failure| {
        let returned = dropped.load(std::sync::atomic::Ordering::Acquire);
        failure.code_if((!returned).then_some("EB06"))
    };
    stuck.done().await.map_err(suspect)?;
    leaving.heard.until_ended(1).await.map_err(suspect)?;
    token
        .until_alone(&lab, "the handler to be dropped after its last call")
        .await?;
    let published = hall.publish(hall.event(1, 5)).await?;
    ensure!(
        published.matched == 1,
        "one of two subscriptions was ended by its own handler, and `matched` is {}",
        published.matched
    );
    other.heard.until_ended(5).await?;
    leaving.heard.exactly(&[(1, 1)], None)
}

async fn a_handler_may_end_anothers_subscription(lab: Lab) -> Outcome {
    lab.promise("A handler may drop any guard, also that of a handler that is at work, and while both do it to each other.");
    let hall = Hall::new(&lab);
    for round in 1..=40 {
        let (one, two) = (Shelf::default(), Shelf::default());
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        let mut heard = Vec::new();
        for (own, other) in [(&one, &two), (&two, &one)] {
            let (other, barrier) = (other.clone(), Arc::clone(&barrier));
            let listener = hall.listen("A", Subscribe::default(), move |_event| {
                let (other, barrier) = (other.clone(), Arc::clone(&barrier));
                async move {
                    barrier.wait().await;
                    other.drop_guard();
                    Ok(())
                }
            })?;
            own.put(listener.guard);
            heard.push(listener.heard);
        }
        hall.publish(hall.event(round, 1)).await?;
        for heard in &heard {
            heard
                .until_ended(1)
                .await
                .map_err(|failure| failure.code_if("EB06"))?;
        }
        let published = hall.publish(hall.event(round, 2)).await?;
        ensure!(
            published.matched == 0,
            "two handlers dropped each other's guards, and `matched` is {}",
            published.matched
        );
        for heard in &heard {
            let begun = heard.begun();
            ensure!(
                begun == [(round, 1)],
                "a handler whose guard was dropped was called for {}",
                some(&begun)
            );
        }
    }
    Ok(())
}

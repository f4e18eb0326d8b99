//! What the checkers say about three small histories.

use std::time::Duration;

use lab::history::{
    Event, Verdict, What, acknowledged_only_after_success, diagram,
    no_duplicate_effect, nothing_lost,
};

// ANCHOR: event
/// One event of a history that is written down here and was not recorded.
fn event(millis: u64, actor: &str, what: What) -> Event {
    Event {
        at: Duration::from_millis(millis),
        actor: actor.to_owned(),
        what,
        id: "A-1".to_owned(),
        detail: String::new(),
    }
}

fn tell(name: &str, events: &[Event], verdict: Verdict) {
    match verdict {
        Verdict::Valid => println!("{name}: valid"),
        Verdict::Unknown(why) => println!("{name}: unknown, {why}"),
        Verdict::Violated(anomaly) => {
            println!("{name}: {}", anomaly.name);
            println!("{}", diagram(events, &anomaly));
        }
    }
}
// ANCHOR_END: event

pub fn run() {
    // ANCHOR: good
    let good = [
        event(0, "producer", What::Sent),
        event(1, "worker-1", What::Delivered { deliveries: 1 }),
        event(2, "worker-1", What::Started { deliveries: 1 }),
        event(9, "worker-1", What::Effect),
        event(10, "worker-1", What::Succeeded),
        event(11, "worker-1", What::Acknowledged),
    ];
    tell("nothing lost", &good, nothing_lost(&good));
    tell(
        "acknowledged after success",
        &good,
        acknowledged_only_after_success(&good),
    );
    tell("one effect", &good, no_duplicate_effect(&good));
    // ANCHOR_END: good

    // ANCHOR: bad
    let bad = [
        event(0, "producer", What::Sent),
        event(1, "worker-1", What::Delivered { deliveries: 1 }),
        event(2, "worker-1", What::Acknowledged),
        event(3, "worker-1", What::Started { deliveries: 1 }),
        event(5, "worker-1", What::Fault("killed".to_owned())),
    ];
    tell("nothing lost", &bad, nothing_lost(&bad));
    tell("acknowledged after success", &bad, acknowledged_only_after_success(&bad));
    // ANCHOR_END: bad

    // ANCHOR: twice
    let twice = [
        event(0, "producer", What::Sent),
        event(1, "worker-1", What::Delivered { deliveries: 1 }),
        event(4, "worker-1", What::Effect),
        event(5, "worker-1", What::Fault("killed".to_owned())),
        event(1005, "worker-2", What::Delivered { deliveries: 2 }),
        event(1008, "worker-2", What::Effect),
        event(1009, "worker-2", What::Succeeded),
        event(1010, "worker-2", What::Acknowledged),
    ];
    tell("nothing lost", &twice, nothing_lost(&twice));
    tell("one effect", &twice, no_duplicate_effect(&twice));
    // ANCHOR_END: twice

    // ANCHOR: unknown
    let unclear = [
        event(0, "producer", What::Sent),
        event(1, "worker-1", What::Delivered { deliveries: 1 }),
        event(2, "worker-1", What::Hidden("the reply of XACK was lost".to_owned())),
    ];
    tell("nothing lost", &unclear, nothing_lost(&unclear));
    // ANCHOR_END: unknown
}

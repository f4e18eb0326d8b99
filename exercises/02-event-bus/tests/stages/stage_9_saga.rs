//! Stage 9: an order that three services serve, and that ends well or as if it had never been.

use event_bus::{Order, Service, place};
use lab::{Check, Failure, Lab, Outcome, ensure};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::hall::timely;
use crate::market::{End, Market, SERVICES, Serving, ends, order};
use crate::stored::while_it_moves;
use lab::crash::{Crash, Point, walk};

pub fn checks() -> Vec<Check> {
    lab::checks![
        an_order_ends_as_it_has_to,
        the_same_order_is_placed_once,
        placing_happens_as_a_whole_or_not_at_all,
        many_orders_end_as_they_have_to.limit_secs(180),
        events_that_come_twice_change_nothing.limit_secs(180),
        a_replay_of_the_whole_log_changes_nothing,
        the_payment_service_may_die_anywhere.limit_secs(180),
        the_shipping_service_may_die_anywhere.limit_secs(180),
        the_order_service_may_die_anywhere.limit_secs(180),
        a_lost_answer_is_no_second_charge,
        two_of_a_service_do_nothing_twice,
        nonsense_stops_no_service,
        the_demo_tells_how_each_order_ended,
    ]
}

async fn an_order_ends_as_it_has_to(lab: Lab) -> Outcome {
    lab.promise("An order is completed with one charge and one shipment; or the bank declines and it is cancelled; or shipping refuses, the money goes back, and it is cancelled.");
    let market = Market::new(&lab).await?;
    let serving = market.serve(&SERVICES);
    let _relay = market.relay();
    let orders = [End::Completed, End::Declined, End::Refused]
        .iter()
        .zip(1..)
        .map(|(end, n)| (order(n, *end), *end))
        .collect::<Vec<_>>();
    for (order, _) in &orders {
        market.place(order).await?;
    }
    market.until_over(3, None).await?;
    market.holds(&orders).await?;
    for entry in market.logged().await? {
        let data = entry.data();
        let due = match entry.text("name").as_str() {
            "order.placed" => ["order", "amount", "item"].as_slice(),
            "payment.taken" => &["order", "amount"],
            "payment.declined" | "shipping.refused" | "order.cancelled" => &["order", "reason"],
            _ => &["order"],
        };
        ensure!(
            due.iter().all(|field| !data[*field].is_null()),
            "`{}` carries {due:?}, and in the log it has {data}",
            entry.text("name")
        );
    }
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

async fn the_same_order_is_placed_once(lab: Lab) -> Outcome {
    lab.promise("To place the same order again, at the same time or later, also when it has ended, is no second order.");
    let market = Market::new(&lab).await?;
    let first = order(7, End::Completed);
    let placing: Vec<_> = (0..5)
        .map(|_| {
            let (saga, order) = (market.saga(), first.clone());
            tokio::spawn(async move { place(&saga, &order).await })
        })
        .collect();
    for mut placing in placing {
        timely(&lab, "`place` to return", &mut placing)
            .await?
            .map_err(|error| {
                Failure::observed(format!(
                    "an order was placed five times at once, and one call failed: {error}"
                ))
            })?;
    }
    let _relay = market.relay();
    let serving = market.serve(&SERVICES);
    market.until_over(1, None).await?;
    market.place(&first).await?;
    let second = order(8, End::Refused);
    market.place(&second).await?;
    market.place(&second).await?;
    market.until_over(2, None).await?;
    let placed = market.logged().await?;
    let placed = placed
        .iter()
        .filter(|entry| entry.text("name") == "order.placed");
    ensure!(
        placed.clone().count() == 2,
        "two orders were placed, several times each; the log has {} `order.placed`",
        placed.count()
    );
    market
        .holds(&[(first, End::Completed), (second, End::Refused)])
        .await?;
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

async fn placing_happens_as_a_whole_or_not_at_all(lab: Lab) -> Outcome {
    lab.promise("Whatever happens to `place`: whoever calls it again has placed the order once.");
    let (walking, crashes) = (lab.clone(), [Crash::CutBefore, Crash::CutAfter]);
    walk(&lab, &crashes, 18, move |point| {
        disturbed_place(walking.clone(), point)
    })
    .await
}

async fn disturbed_place(lab: Lab, point: Point) -> Result<bool, Failure> {
    let market = Market::new(&lab).await?;
    let fault = point.arm(&market.redis);
    let first = order(5, End::Completed);
    let (saga, placed) = (market.saga(), first.clone());
    let mut placing = tokio::spawn(async move { place(&saga, &placed).await });
    let result = timely(&lab, "`place` to return", &mut placing).await?;
    let struck = !fault.disarm();
    ensure!(
        struck || result.is_ok(),
        "nothing was disturbed, and `place` returned {result:?}"
    );
    let waiting = || async {
        let outbox = format!("{}:outbox", market.prefix);
        let entries = crate::stored::entries_of(&market.redis, &outbox).await?;
        Ok::<usize, Failure>(entries.len())
    };
    ensure!(
        result.is_err() || waiting().await? == 1,
        "EB19",
        "`place` returned {result:?}, and the outbox holds {} events; {}",
        waiting().await?,
        point.blame(&market.redis)
    );
    market.place(&first).await?;
    ensure!(
        waiting().await? == 1,
        "EB19",
        "an order was placed, disturbed, and placed again; the outbox holds {} events; {}",
        waiting().await?,
        point.blame(&market.redis)
    );
    Ok(struck)
}

/// Orders that end in all ways, at random.
fn at_random(lab: &Lab, count: u64) -> Vec<(Order, End)> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(lab.seed());
    (1..=count)
        .map(|n| {
            let end = match rng.random_range(0..3) {
                0 => End::Completed,
                1 => End::Declined,
                _ => End::Refused,
            };
            (order(n, end), end)
        })
        .collect()
}

async fn many_orders_end_as_they_have_to(lab: Lab) -> Outcome {
    lab.promise("However many orders are under way at once, each ends as it has to, with two relays and with services that come and go.");
    let market = Market::new(&lab).await?;
    let mut serving = market.serve(&SERVICES);
    let _relays = (market.relay(), market.relay());
    let orders = at_random(&lab, 30);
    for (n, (order, _)) in orders.iter().enumerate() {
        market.place(order).await?;
        if n % 6 == 5 {
            // One ends wherever it is, and another takes its place.
            let gone: Serving = serving.remove(0);
            let service = gone.service;
            gone.abort().await;
            serving.extend(market.serve(&[service]));
        }
    }
    market.until_over(30, None).await?;
    market.holds(&orders).await?;
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

async fn events_that_come_twice_change_nothing(lab: Lab) -> Outcome {
    lab.promise("Events that are delivered twice, soon or late and in whatever order, change nothing: no second charge, shipment, return or end.");
    let market = Market::new(&lab).await?;
    let serving = market.serve(&SERVICES);
    let _relay = market.relay();
    let orders = at_random(&lab, 9);
    for (order, _) in &orders {
        market.place(order).await?;
    }
    let mut rng = lab.rng();
    let mut copied = 0;
    // At once, one after the other …
    let over = async { market.until_over(9, None).await };
    let copying = async {
        loop {
            let logged = market.logged().await?;
            for entry in logged.iter().skip(copied).take(1) {
                copied += 1;
                let name = entry.text("name");
                if copied % 2 == 0 && !ends(&name) && name != "shipping.sent" {
                    again(&market, entry).await?;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        over = over => { over?; }
        copied = copying => { let copied: Outcome = copied; copied?; }
    }
    market.until_over(9, None).await?;
    market.holds(&orders).await?;
    // … and all again, long after, in any order.
    let mut logged = market.logged().await?;
    logged.retain(|entry| !ends(&entry.text("name")) && entry.text("name") != "shipping.sent");
    logged.shuffle(&mut rng);
    for entry in &logged {
        again(&market, entry).await?;
    }
    market.until_over(9, None).await?;
    let (logged, sent) = (market.logged().await?, logged.len());
    let answers = logged.len();
    market.holds(&orders).await.map_err(|failure| {
        failure.also(format!(
            "{sent} events of orders that had ended were delivered again; the log has {answers} entries now"
        ))
    })?;
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

/// Appends an event to the log once more.
async fn again(market: &Market, entry: &crate::stored::Entry) -> Outcome {
    let mut command = redis::cmd("XADD");
    command.arg(&market.log).arg("*");
    for (name, value) in &entry.fields {
        command.arg(name).arg(value.as_slice());
    }
    let _: String = command
        .query_async(&mut market.redis.direct().await?)
        .await?;
    Ok(())
}

async fn a_replay_of_the_whole_log_changes_nothing(lab: Lab) -> Outcome {
    lab.promise("A service that is given the whole log again from the beginning does nothing a second time.");
    let market = Market::new(&lab).await?;
    let serving = market.serve(&SERVICES);
    let _relay = market.relay();
    let orders = at_random(&lab, 6);
    for (order, _) in &orders {
        market.place(order).await?;
    }
    market.until_over(6, None).await?;
    for service in serving {
        service.finish(&lab).await?;
    }
    for service in SERVICES {
        let _: redis::Value = redis::cmd("XGROUP")
            .arg(&["SETID", &market.log, service.name(), "0"])
            .query_async(&mut market.redis.direct().await?)
            .await?;
    }
    let before = market.logged().await?.len();
    let serving = market.serve(&SERVICES);
    market.until_over(6, None).await?;
    market.holds(&orders).await?;
    let after = market.logged().await?.len();
    ensure!(
        after == before,
        "EB23",
        "every service was given the log of {before} events again, and {} more came of it",
        after - before
    );
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

async fn the_payment_service_may_die_anywhere(lab: Lab) -> Outcome {
    lab.promise("The payment service is killed, or loses its connection, at any command: every order ends as it has to, with one charge and at most one return.");
    dies_anywhere(&lab, Service::Payment, &[Crash::CutAfter, Crash::KillAfter]).await
}

async fn the_shipping_service_may_die_anywhere(lab: Lab) -> Outcome {
    lab.promise("The shipping service is killed at any command: every order ends as it has to, and nothing is shipped twice.");
    dies_anywhere(&lab, Service::Shipping, &[Crash::KillAfter]).await
}

async fn the_order_service_may_die_anywhere(lab: Lab) -> Outcome {
    lab.promise("The order service is killed at any command: every order ends, once.");
    dies_anywhere(&lab, Service::Order, &[Crash::KillAfter]).await
}

/// To be killed before a command and behind the one before it leaves the same behind.
async fn dies_anywhere(lab: &Lab, victim: Service, crashes: &[Crash]) -> Outcome {
    let walking = lab.clone();
    walk(lab, crashes, 60, move |point| {
        disturbed(walking.clone(), victim, point)
    })
    .await
}

async fn disturbed(lab: Lab, victim: Service, point: Point) -> Result<bool, Failure> {
    let market = Market::new(&lab).await?;
    let own = market.through_another_proxy().await?;
    let orders = [(1, End::Completed), (2, End::Refused)].map(|(n, end)| (order(n, end), end));
    for (order, _) in &orders {
        market.place(order).await?;
    }
    let others: Vec<Service> = SERVICES.into_iter().filter(|s| *s != victim).collect();
    let _others = market.serve(&others);
    let _relay = market.relay();
    let fault = point.arm(&own.redis);
    let blamed = |failure: Failure| {
        failure.also(format!(
            "the {victim:?} service: {}",
            point.blame(&own.redis)
        ))
    };
    let struck = match point.crash {
        Crash::CutBefore | Crash::CutAfter => {
            let mut serving = own.serve(&[victim]);
            let what = "the orders to end, or the service";
            while_it_moves(
                &lab,
                what,
                || market.places(),
                || async {
                    let ended = serving[0].task.is_finished();
                    Ok((ended || market.is_quiet().await?).then_some(()))
                },
            )
            .await
            .map_err(blamed)?;
            if serving[0].task.is_finished() {
                // The very first commands may be lost: then it says that it cannot connect.
                let ended = (&mut serving[0].task).await?;
                ensure!(
                    matches!(&ended, Err(error) if error.is_connection()),
                    "the {victim:?} service ended by itself with {ended:?}; {}",
                    point.blame(&own.redis)
                );
                serving = own.serve(&[victim]);
            }
            market.until_over(2, None).await.map_err(blamed)?;
            drop(serving);
            !fault.disarm()
        }
        Crash::KillBefore | Crash::KillAfter => {
            let process = own.process(victim)?;
            let fired = market.until_over(2, Some(&fault)).await.map_err(blamed)?;
            if fired || !fault.disarm() {
                process.kill();
                process.wait().await?;
                point.after_the_kill(&fault);
                let _serving = market.serve(&[victim]);
                market.until_over(2, None).await.map_err(blamed)?;
                true
            } else {
                false
            }
        }
    };
    market.holds(&orders).await.map_err(blamed)?;
    Ok(struck)
}

async fn a_lost_answer_is_no_second_charge(lab: Lab) -> Outcome {
    lab.promise("When the bank's answer is lost the payment service asks again, in the same words: the bank has charged once.");
    let market = Market::new(&lab).await?;
    let own = market.through_another_proxy().await?;
    let bank = format!("{}:bank", market.prefix);
    let _others = market.serve(&[Service::Order, Service::Shipping]);
    let _relay = market.relay();
    let asks =
        move |e: &lab::faults::Exchange| (1..e.command.len()).any(|i| e.arg(i).starts_with(&bank));
    let mut faults = Vec::new();
    for _ in 0..3 {
        // One after the other: each lets the next one have the next question.
        faults.push(own.redis.proxy().arm(
            lab::faults::Trigger::request(asks.clone()),
            lab::faults::Action::CutAfter,
        ));
    }
    let serving = own.serve(&[Service::Payment]);
    let orders = [(1, End::Completed), (2, End::Refused)].map(|(n, end)| (order(n, end), end));
    for (order, _) in &orders {
        market.place(order).await?;
    }
    market.until_over(2, None).await?;
    ensure!(
        faults.iter().all(lab::faults::Fault::has_fired),
        "the payment service has asked the bank fewer than three times, with its answer lost each time"
    );
    market
        .holds(&orders)
        .await
        .map_err(|failure| failure.also("three of the bank's answers were lost"))?;
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

async fn two_of_a_service_do_nothing_twice(lab: Lab) -> Outcome {
    lab.promise("Two processes of one service, as after a pause that was taken for a death, do nothing twice.");
    let market = Market::new(&lab).await?;
    let paused = SERVICES
        .iter()
        .map(|service| market.process(*service))
        .collect::<Result<Vec<_>, _>>()?;
    let _relay = market.relay();
    let mut orders = Vec::new();
    for round in 0..4_u64 {
        for (n, end) in [(1, End::Completed), (2, End::Refused), (3, End::Declined)] {
            let (order, end) = (order(round * 3 + n, end), end);
            market.place(&order).await?;
            orders.push((order, end));
        }
        match round {
            0 => paused.iter().for_each(lab::Service::pause),
            2 => paused.iter().for_each(lab::Service::resume),
            _ => {}
        }
    }
    let serving = market.serve(&SERVICES);
    market.until_over(12, None).await?;
    market.holds(&orders).await?;
    for service in serving {
        service.finish(&lab).await?;
    }
    for service in &paused {
        service.terminate();
        let status = service.wait().await?;
        ensure!(
            status.success(),
            "asked to stop, `event-bus saga-demo` ended with {status}"
        );
    }
    market.holds(&orders).await
}

async fn nonsense_stops_no_service(lab: Lab) -> Outcome {
    lab.promise("What makes no sense in the log (no event at all, an event without an order, an event that the saga does not know) is set aside or passed over, and the orders behind it end as they have to.");
    let market = Market::new(&lab).await?;
    let mut direct = market.redis.direct().await?;
    let at = "2026-03-01T12:00:00.000Z";
    for fields in [
        vec![("order_id", "A-1")],
        vec![
            ("name", "weather.changed"),
            ("data", "\"rain\""),
            ("at", at),
        ],
        vec![
            ("name", "order.placed"),
            ("data", "{\"amount\":5}"),
            ("at", at),
        ],
    ] {
        let _: String = redis::cmd("XADD")
            .arg(&market.log)
            .arg("*")
            .arg(&fields)
            .query_async(&mut direct)
            .await?;
    }
    let serving = market.serve(&SERVICES);
    let _relay = market.relay();
    let orders = [(1, End::Completed), (2, End::Refused)].map(|(n, end)| (order(n, end), end));
    for (order, _) in &orders {
        market.place(order).await?;
    }
    market.until_over(2, None).await?;
    market.holds_beside_nonsense(&orders).await?;
    for service in serving {
        service.finish(&lab).await?;
    }
    Ok(())
}

async fn the_demo_tells_how_each_order_ended(lab: Lab) -> Outcome {
    lab.promise("`event-bus saga-demo` takes orders as JSON lines and prints a line `{\"order\",\"state\",\"reason\"}` for each that has ended.");
    let market = Market::new(&lab).await?;
    let url = market.redis.url();
    let demo = lab
        .service([
            "saga-demo",
            "--redis",
            &url,
            "--prefix",
            &market.prefix,
            "--log",
            &market.log,
        ])
        .start()?;
    let orders = at_random(&lab, 6);
    for (order, _) in &orders {
        let line = json!({"id": order.id, "amount": order.amount, "item": order.item});
        demo.write_line(&line.to_string()).await?;
    }
    let mut told = Vec::new();
    for _ in &orders {
        told.push(demo.next_json().await?);
    }
    for (order, end) in &orders {
        let lines: Vec<_> = told
            .iter()
            .filter(|line| line["order"] == order.id.as_str())
            .collect();
        let state = match end {
            End::Completed => "completed",
            _ => "cancelled",
        };
        ensure!(
            lines.len() == 1
                && lines[0]["state"] == state
                && lines[0]["reason"].is_string() == (*end != End::Completed),
            "order {} was to be {end:?}; the demo printed {lines:?}",
            order.id
        );
    }
    market.until_over(6, None).await?;
    market.holds(&orders).await?;
    demo.close_stdin();
    demo.terminate();
    let status = demo.wait().await?;
    ensure!(
        status.success(),
        "asked to stop, `event-bus saga-demo` ended with {status}"
    );
    Ok(())
}

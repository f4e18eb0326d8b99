//! The keeper's side: inside its own process.

use std::io::{Read, Write};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::desk::Desk;
use super::keeper::{Brokers, DETACHED, KEEP, Report, force_for};
use super::ladder::{Broker, Running};
use super::sweep::{self, Home};
use super::{Attempt, Unavailable, Wanted};

/// Becomes a keeper if the arguments say so. To be called first thing in the `main` of every
/// program that uses [`Keeper::start`](super::Keeper::start), before a runtime or a thread is started. `Some` is the
/// exit code with which `main` must return.
#[must_use = "a keeper has done its work when this returns `Some`"]
pub fn keep_if_asked() -> Option<ExitCode> {
    // Asked for now, while the system still knows it; whoever needs it later hears of an error then.
    let _ = crate::program();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(KEEP) {
        return None;
    }
    let mode = arguments.next().unwrap_or_default();
    let wanted = Wanted::from_names(arguments.next().unwrap_or_default().split(','));
    // One thread, which starts the brokers and lives as long as the process: a broker that is to
    // die with its parent dies with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(keep(wanted, mode == DETACHED)),
        Err(_) => return Some(ExitCode::FAILURE),
    }
    Some(ExitCode::SUCCESS)
}

async fn keep(wanted: Wanted, detached: bool) {
    // From now on this ends the waiting below, not the process.
    let mut unwanted = std::pin::pin!(until_unwanted(detached));
    let mut running = Vec::new();
    let result = tokio::select! {
        // First, so that signals are caught before anything is started.
        biased;
        () = &mut unwanted => return stop_all(running).await,
        result = start_all(wanted, &mut running) => result,
    };
    match result {
        Ok((home, mut brokers)) => {
            let desk = match wanted.browser {
                // Without one, the checks that come to it say so.
                true => Desk::open(home.path()).await.ok(),
                false => None,
            };
            brokers.browser = desk.as_ref().map(Desk::address);
            say(&Report {
                result: Ok(brokers),
            });
            unwanted.await;
            if let Some(desk) = desk {
                desk.close().await;
            }
            stop_all(running).await;
        }
        Err(unavailable) => {
            stop_all(running).await;
            say(&Report {
                result: Err(unavailable),
            });
        }
    }
}

/// Ends when standard input does (unless `detached`), or when this process is asked to stop.
async fn until_unwanted(detached: bool) {
    let input = async {
        if detached {
            return std::future::pending().await;
        }
        let (tell, ended) = tokio::sync::oneshot::channel::<()>();
        // A plain thread: reading standard input cannot be cancelled.
        std::thread::spawn(move || {
            let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
            drop(tell);
        });
        let _ = ended.await;
    };
    // One that cannot be listened for cannot end the waiting either.
    let asked = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = input => {}
        () = asked(SignalKind::terminate()) => {}
        () = asked(SignalKind::interrupt()) => {}
        () = asked(SignalKind::hangup()), if !detached => {}
    }
}

async fn start_all(
    wanted: Wanted,
    running: &mut Vec<Running>,
) -> Result<(Home, Brokers), Unavailable> {
    let force = force_for(wanted)?;
    sweep::sweep().await;
    let home = Home::make().map_err(|error| Unavailable {
        broker: "broker".into(),
        tried: vec![Attempt {
            way: format!("a directory in {}", std::env::temp_dir().display()),
            why: error.to_string(),
            mend: None,
        }],
    })?;
    let mut brokers = Brokers {
        home: home.path().to_owned(),
        ..Brokers::default()
    };
    for (wanted, broker) in [(wanted.redis, Broker::Redis), (wanted.amqp, Broker::Amqp)] {
        if wanted {
            let started = broker.start(force, &home).await?;
            let served = Some(started.served());
            match broker {
                Broker::Redis => brokers.redis = served,
                Broker::Amqp => brokers.amqp = served,
            }
            running.push(started);
        }
    }
    Ok((home, brokers))
}

async fn stop_all(running: Vec<Running>) {
    for broker in running {
        broker.stop().await;
    }
}

fn say(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        // Nobody may be listening any more; then the input has ended, too.
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

//! Handlers that fail, panic and hang, and what becomes of the others.

use std::any::Any;
use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

// ANCHOR: handlers
async fn mail(trip: u32) -> Result<(), String> {
    Err(format!("no mail server for trip {trip}"))
}

async fn board(trip: u32) -> Result<(), String> {
    println!("board: trip {trip}");
    Ok(())
}

async fn in_a_row(trip: u32) -> Result<(), String> {
    mail(trip).await?;
    board(trip).await
}
// ANCHOR_END: handlers

// ANCHOR: points
/// A hundred points to share among the travellers.
async fn points(travellers: u32) -> Result<u32, String> {
    match travellers {
        9 => pending().await, // A service that never answers.
        travellers => Ok(100 / travellers),
    }
}
// ANCHOR_END: points

// ANCHOR: call
async fn call(travellers: u32) -> Result<u32, String> {
    // The call is inside the block, because it may panic before there is a future.
    let calling = async { points(travellers).await };
    let caught = AssertUnwindSafe(calling).catch_unwind();
    match timeout(Duration::from_millis(50), caught).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(format!("panicked: {}", text(panic.as_ref()))),
        Err(_) => Err("took too long".to_owned()),
    }
}

/// `panic!` with a fixed text carries a `&str`, one with arguments a `String`.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let string = panic.downcast_ref::<String>().map(String::as_str);
    text.or(string).unwrap_or("something else")
}
// ANCHOR_END: call

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: in_a_row
    println!("publish: {:?}", in_a_row(7).await);
    // ANCHOR_END: in_a_row

    // ANCHOR: dies
    let (queue, mut events) = mpsc::channel(8);
    let subscriber = tokio::spawn(async move {
        while let Some(travellers) = events.recv().await {
            let _ = points(travellers).await;
        }
    });
    queue.send(0).await?;
    let ended = subscriber.await;
    println!("the task panicked: {}", ended.is_err_and(|error| error.is_panic()));
    println!("the next event: {:?}", queue.send(4).await);
    // ANCHOR_END: dies

    // ANCHOR: lives
    let (queue, mut events) = mpsc::channel(8);
    for travellers in [0, 9, 4] {
        queue.send(travellers).await?;
    }
    drop(queue);
    while let Some(travellers) = events.recv().await {
        println!("{travellers} travellers: {:?}", call(travellers).await);
    }
    // ANCHOR_END: lives

    // ANCHOR: early
    // This handler computes first, and then returns a future.
    let eager = |travellers: u32| ready(100 / travellers);
    let subscriber = tokio::spawn(async move {
        AssertUnwindSafe(eager(0)).catch_unwind().await.is_err()
    });
    println!("called outside: caught {}", subscriber.await.is_ok());
    let calling = async { eager(0).await };
    let caught = AssertUnwindSafe(calling).catch_unwind().await;
    println!("called inside: caught {}", caught.is_err());
    // ANCHOR_END: early

    // ANCHOR: joined
    let mut calls = JoinSet::new();
    for travellers in [0, 4] {
        calls.spawn(points(travellers));
        match calls.join_next().await {
            Some(Err(error)) => println!("panicked: {}", error.is_panic()),
            other => println!("{other:?}"),
        }
    }
    // ANCHOR_END: joined

    // ANCHOR: blocks
    let blocking = async { thread::sleep(Duration::from_millis(100)) };
    let result = timeout(Duration::from_millis(10), blocking).await;
    println!("10 ms for a thread that sleeps for 100: {result:?}");
    // ANCHOR_END: blocks

    // ANCHOR: one_task
    let slow = async {
        thread::sleep(Duration::from_millis(10));
        println!("mail is done");
    };
    let quick = async { println!("board is done") };
    futures::join!(slow, quick);
    // ANCHOR_END: one_task
    Ok(())
}
